/*
 * tls_file.c - small PEM files, read whole and wiped, and dates for sentences.
 *
 * Files are read by us rather than by GnuTLS, whose file functions say "error while reading file"
 * for all that can go wrong.
 */
#include "tls_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int ph_tls_file_read(gnutls_datum_t *out, const char *what, const char *path, struct ph_err *err)
{
    *out = (gnutls_datum_t){NULL, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? ph_fail(err, PH_E_TLS, "%s '%s' does not exist", what, path)
                               : ph_fail(err, PH_E_TLS, "%s '%s' cannot be read: %s", what, path,
                                         strerror(errno));
    }
    struct stat st;
    int rv = 0;
    if (fstat(fd, &st) != 0) {
        rv = ph_fail(err, PH_E_TLS, "%s '%s' cannot be read: %s", what, path, strerror(errno));
        goto out;
    }
    if (S_ISDIR(st.st_mode)) {
        rv = ph_fail(err, PH_E_TLS, "%s '%s' is a directory", what, path);
        goto out;
    }
    /* Read to the end rather than by st_size: pipes and secret mounts have none. */
    uint8_t *data = ph_alloc(PH_TLS_FILE_MAX + 1);
    size_t n = 0;
    out->data = data;
    while (n < PH_TLS_FILE_MAX) {
        ssize_t got = read(fd, data + n, PH_TLS_FILE_MAX - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            rv = ph_fail(err, PH_E_TLS, "%s '%s' cannot be read: %s", what, path, strerror(errno));
            goto out;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    out->size = (unsigned)n;
    if (n == PH_TLS_FILE_MAX)
        rv = ph_fail(err, PH_E_TLS, "%s '%s' is larger than %d bytes", what, path,
                     PH_TLS_FILE_MAX - 1);
    else if (n == 0)
        rv = ph_fail(err, PH_E_TLS, "%s '%s' is empty", what, path);
out:
    close(fd);
    if (rv != 0)
        ph_tls_file_free(out);
    return rv;
}

void ph_tls_file_free(gnutls_datum_t *file)
{
    if (file->data != NULL)
        gnutls_memset(file->data, 0, file->size);
    ph_free(file->data);
    *file = (gnutls_datum_t){NULL, 0};
}

const char *ph_tls_date(char *out, time_t when)
{
    struct tm tm;
    if (gmtime_r(&when, &tm) == NULL || strftime(out, PH_TLS_DATE_LEN, "%F %T UTC", &tm) == 0)
        snprintf(out, PH_TLS_DATE_LEN, "%lld", (long long)when);
    return out;
}
