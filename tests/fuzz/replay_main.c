/*
 * replay_main.c - runs a fuzz target over files when there is no fuzzing engine (gcc builds).
 *
 * Arguments are files or directories; each file found is one input. It serves to reproduce a
 * finding under a debugger and to run the corpora as regression tests. The last line says how many
 * ran.
 */
#define _GNU_SOURCE
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { OPEN_DIRECTORIES = 16 };
static unsigned long inputs, unreadable;

static int replay(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)where;
    if (type != FTW_F)
        return 0;
    size_t n = (size_t)st->st_size;
    uint8_t *data = malloc(n > 0 ? n : 1); /* exact size, so that ASan sees one byte too far */
    FILE *file = fopen(path, "rb");
    if (data == NULL || file == NULL || fread(data, 1, n, file) != n) {
        fprintf(stderr, "%s: cannot be read\n", path);
        unreadable++;
    } else {
        LLVMFuzzerTestOneInput(data, n);
        inputs++;
    }
    if (file != NULL)
        fclose(file);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-') /* an engine's option */
            continue;
        if (nftw(argv[i], replay, OPEN_DIRECTORIES, FTW_PHYS) != 0) {
            fprintf(stderr, "%s: cannot be read\n", argv[i]);
            unreadable++;
        }
    }
    printf("%lu inputs replayed\n", inputs);
    return unreadable > 0 || inputs == 0;
}
