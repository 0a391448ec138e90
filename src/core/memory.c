/*
 * memory.c - the memory budget: new work is refused before the kernel has to kill the process.
 *
 *      turn -> ph_memory_sample() -> admission.is_short -> connections refused, requests get 503
 *
 * What is measured is the resident memory of the process, because that is what the kernel counts
 * when it looks for somebody to kill, and because it contains what the core cannot account for: the
 * application's objects, the interpreter, the libraries. It is read at most every SAMPLE_EVERY, on
 * turns that happen anyway; what may come in between is bounded by the windows. Freed memory that
 * the allocator keeps would count as used for ever, so it is given back before anything is refused.
 */
#include "core.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#define SAMPLE_EVERY (100 * PH_MSEC)
/* Giving memory back takes a while when there is much of it. */
#define TRIM_EVERY (5 * PH_SEC)
/* Refusing ends this far below the budget, so that it does not flicker. */
#define AGAIN_BELOW(budget) ((budget) - (budget) / 32)

/* Blocks of this size and more, such as a large message, get pages of their own and give them back
 * when they are freed. Left to itself, glibc learns from the first one to keep the next, up to 32
 * MiB each, and in the arena of the I/O thread even malloc_trim() does not find them again. */
#define LARGE_BLOCK (4 << 20)
#define KEPT_FREE (8 << 20)

/* Of a small file; 0 when there is none. NUL-terminated. */
static size_t read_file(const char *path, char *out, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, cap - 1);
    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* A limit in bytes; UINT64_MAX for "max", nothing, or a value that says the same. */
static uint64_t read_limit(const char *path)
{
    char text[64];
    if (read_file(path, text, sizeof(text)) == 0 || text[0] < '0' || text[0] > '9')
        return UINT64_MAX;
    return strtoull(text, NULL, 10);
}

/* The smallest limit of the process's control groups, of version 2 ("0::/a/b" and every level above
 * it) or 1 ("N:memory:/a/b"). */
static uint64_t cgroup_limit(void)
{
    char text[4096], path[4400];
    uint64_t limit = UINT64_MAX;
    if (read_file("/proc/self/cgroup", text, sizeof(text)) == 0)
        return limit;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        char *group = strchr(line, '/');
        bool is_v1 = strstr(line, ":memory:") != NULL;
        if (group == NULL || (!is_v1 && strncmp(line, "0::", 3) != 0))
            continue;
        for (char *end = group + strlen(group); end != NULL; end = strrchr(group, '/')) {
            *end = '\0';
            snprintf(path, sizeof(path), "/sys/fs/cgroup%s%s/%s", is_v1 ? "/memory" : "", group,
                     is_v1 ? "memory.limit_in_bytes" : "memory.max");
            limit = PH_MIN(limit, read_limit(path));
        }
    }
    return limit;
}

uint64_t ph_memory_budget_default(void)
{
    uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    return PH_MIN(ram, cgroup_limit()) / 4 * 3;
}

void ph_memory_init(struct ph_memory *memory, uint64_t budget, uint64_t workers)
{
    *memory = (struct ph_memory){
        .budget = budget != 0 ? budget : ph_memory_budget_default() / workers,
        .page = (uint64_t)sysconf(_SC_PAGESIZE),
        .fd = -1,
    };
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
    mallopt(M_TRIM_THRESHOLD, KEPT_FREE);
#endif
}

void ph_memory_fini(struct ph_memory *memory)
{
    if (memory->fd >= 0)
        close(memory->fd);
    memory->fd = -1;
}

/* Second number of /proc/self/statm: resident pages. 0: cannot be read. */
static uint64_t resident(struct ph_memory *memory)
{
    char text[128];
    if (memory->fd < 0)
        memory->fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = memory->fd < 0 ? -1 : pread(memory->fd, text, sizeof(text) - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *space = strchr(text, ' ');
    return space != NULL ? strtoull(space, NULL, 10) * memory->page : 0;
}

bool ph_memory_sample(struct ph_memory *memory, uint64_t now)
{
    if (now < memory->next_sample)
        return memory->is_short;
    memory->next_sample = now + SAMPLE_EVERY;
    uint64_t used = resident(memory);
#ifdef __GLIBC__
    if (used > memory->budget && now >= memory->next_trim) {
        memory->next_trim = now + TRIM_EVERY;
        malloc_trim(0);
        used = resident(memory);
    }
#endif
    memory->used = used;
    memory->is_short = used > (memory->is_short ? AGAIN_BELOW(memory->budget) : memory->budget);
    return memory->is_short;
}
