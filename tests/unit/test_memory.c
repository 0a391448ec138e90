/* test_memory.c - the memory budget. */
#include "../../src/core/core.h"
#include "test.h"

#include <unistd.h>

TEST(memory, default_budget_is_within_the_machine)
{
    uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    CHECK_INT(ph_memory_budget_default(), >, 0);
    CHECK_INT(ph_memory_budget_default(), <=, ram / 4 * 3);
}

TEST(memory, more_than_the_budget_is_short_and_less_is_not)
{
    struct ph_memory memory;
    ph_memory_init(&memory, 0, 1);
    CHECK(!ph_memory_sample(&memory, PH_SEC));
    CHECK_INT(memory.used, >, 0);
    uint64_t used = memory.used;
    ph_memory_fini(&memory);
    ph_memory_init(&memory, 1, 1);
    CHECK(ph_memory_sample(&memory, PH_SEC));
    memory.budget = 4 * used;
    CHECK(ph_memory_sample(&memory, PH_SEC + 99 * PH_MSEC)); /* it is not looked at so often */
    CHECK(!ph_memory_sample(&memory, PH_SEC + 100 * PH_MSEC));
    ph_memory_fini(&memory);
}

TEST(memory, it_is_short_until_there_is_a_little_room)
{
    struct ph_memory memory;
    ph_memory_init(&memory, 1, 1);
    CHECK(ph_memory_sample(&memory, PH_SEC));
    memory.budget = memory.used + memory.used / 100; /* just below the budget */
    CHECK(ph_memory_sample(&memory, 2 * PH_SEC));
    memory.is_short = false;
    CHECK(!ph_memory_sample(&memory, 3 * PH_SEC));
    ph_memory_fini(&memory);
}
