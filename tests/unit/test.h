/*
 * test.h - the unit-test harness: tests register themselves, one program runs them all.
 *
 *      TEST(ring, full_then_drain) { CHECK(ph_ring_push(...)); }
 *
 * A test that leaves objects alive (ph_live_get()) fails. `program NAME...` runs the tests whose
 * "suite.name" contains one of the arguments. The last line is "N passed, N failed".
 */
#ifndef PH_TEST_H
#define PH_TEST_H

#include "../../src/base/base.h"

struct ph_test {
    const char *suite, *name;
    void (*run)(void);
    struct ph_test *next;
};
void ph_test_register(struct ph_test *test);
/* Marks the running test as failed and leaves it. */
_Noreturn void ph_test_fail(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Seed of the running test: argument --seed N, otherwise fixed. Simulations print it on failure. */
uint64_t ph_test_seed(void);

#define TEST(suite_, name_)                                                                        \
    static void test_##suite_##_##name_(void);                                                     \
    __attribute__((constructor)) static void register_##suite_##_##name_(void)                     \
    {                                                                                              \
        static struct ph_test test = {#suite_, #name_, test_##suite_##_##name_, NULL};             \
        ph_test_register(&test);                                                                   \
    }                                                                                              \
    static void test_##suite_##_##name_(void)

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            ph_test_fail(__FILE__, __LINE__, "%s", #cond);                                         \
    } while (0)
/* Integers of any type that fits long long. */
#define CHECK_INT(a, op, b)                                                                        \
    do {                                                                                           \
        long long a_ = (long long)(a), b_ = (long long)(b);                                        \
        if (!(a_ op b_))                                                                           \
            ph_test_fail(__FILE__, __LINE__, "%s %s %s: %lld against %lld", #a, #op, #b, a_, b_);  \
    } while (0)
#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *a_ = (a), *b_ = (b);                                                           \
        if (strcmp(a_, b_) != 0)                                                                   \
            ph_test_fail(__FILE__, __LINE__, "%s is \"%s\", not \"%s\"", #a, a_, b_);              \
    } while (0)
#define CHECK_MEM(a, b, n)                                                                         \
    do {                                                                                           \
        if (memcmp(a, b, n) != 0)                                                                  \
            ph_test_fail(__FILE__, __LINE__, "%s and %s differ in %zu bytes", #a, #b,              \
                         (size_t)(n));                                                             \
    } while (0)

#endif
