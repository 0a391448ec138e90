/* test_main.c - runs the registered tests; see test.h. Linked into the unit and simulation
 * programs. */
#include "test.h"

#include <setjmp.h>
#include <stdlib.h>

static struct ph_test *tests, **tests_end = &tests;
static jmp_buf leave;
static const struct ph_test *running;
static uint64_t seed = 1;

void ph_test_register(struct ph_test *test)
{
    *tests_end = test;
    tests_end = &test->next;
}

uint64_t ph_test_seed(void)
{
    return seed;
}

_Noreturn void ph_test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s:%d: %s.%s: ", file, line, running->suite, running->name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    longjmp(leave, 1);
}

static bool is_chosen(const struct ph_test *test, int argc, char **argv)
{
    char name[256];
    snprintf(name, sizeof(name), "%s.%s", test->suite, test->name);
    bool any = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0) {
            i++;
            continue;
        }
        any = true;
        if (strstr(name, argv[i]) != NULL)
            return true;
    }
    return !any;
}

static bool run_one(const struct ph_test *test)
{
    int64_t before[PH_LIVE_COUNT];
    for (int i = 0; i < PH_LIVE_COUNT; i++)
        before[i] = ph_live_get((enum ph_live)i);
    running = test;
    if (setjmp(leave) != 0)
        return false;
    test->run();
    for (int i = 0; i < PH_LIVE_COUNT; i++) {
        const char *name = "";
        int64_t now = 0;
        ph_live_objects((size_t)i, &name, &now);
        if (now != before[i]) {
            fprintf(stderr, "%s.%s: leaks %lld object(s) of kind %s\n", test->suite, test->name,
                    (long long)(now - before[i]), name);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0;
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
    }
    for (const struct ph_test *test = tests; test != NULL; test = test->next) {
        if (!is_chosen(test, argc, argv))
            continue;
        if (run_one(test)) {
            passed++;
        } else {
            failed++;
            fprintf(stderr, "FAILED %s.%s\n", test->suite, test->name);
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
