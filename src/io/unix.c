/*
 * unix.c - listening on a path instead of a port.
 *
 * Connections of such a socket go the way of TCP ones from accept on. The file needs care at both
 * ends of its life. At the start: what a dead server left is replaced, while a live server, a file
 * that is something else and a socket of another user are left alone, so that a mistyped path
 * destroys nothing and nobody's clients are taken over. At the end: only the process that made the
 * file removes it, and only while it is the same file: a successor may have replaced it already.
 *
 * Between bind and listen a connection is refused: nobody comes in before mode and owner are set.
 */
#include "io.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int unix_fail(int fd, const char *path, const char *what, struct ph_err *err)
{
    int code = errno;
    if (fd >= 0)
        close(fd);
    return ph_fail(err, PH_E_IO, "cannot listen on unix:%s: %s%s%s", path, what != NULL ? what : "",
                   what != NULL ? ": " : "", strerror(code));
}

static socklen_t address(struct sockaddr_un *un, const char *path)
{
    size_t n = strlen(path);
    PH_ASSERT(n > 0 && n <= PH_UNIX_PATH_MAX);
    *un = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(un->sun_path, path, n + 1);
    if (path[0] != '@')
        return sizeof(*un);
    un->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

/* Whether somebody accepts connections there: then connecting works, or would if it waited. */
static bool is_alive(const struct sockaddr_un *un, socklen_t len, int *error)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return true; /* cannot tell: leave it alone */
    bool connected = connect(fd, (const struct sockaddr *)un, len) == 0;
    *error = connected ? 0 : errno;
    close(fd);
    return connected || *error == EAGAIN;
}

/* Makes room for our file. */
static int clear_path(const char *path, const struct sockaddr_un *un, socklen_t len,
                      struct ph_err *err)
{
    struct stat st;
    int error = 0;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? 0 : unix_fail(-1, path, NULL, err);
    if (!S_ISSOCK(st.st_mode))
        return ph_fail(err, PH_E_IO,
                       "cannot listen on unix:%s: a file is there that is not a socket", path);
    if (is_alive(un, len, &error))
        return ph_fail(err, PH_E_IO, "cannot listen on unix:%s: a server listens there", path);
    if (error != ECONNREFUSED)
        return ph_fail(err, PH_E_IO, "cannot listen on unix:%s: a socket is there: %s", path,
                       strerror(error));
    if (geteuid() != 0 && st.st_uid != geteuid())
        return ph_fail(err, PH_E_IO,
                       "cannot listen on unix:%s: a socket of another user (uid %u) is there", path,
                       (unsigned)st.st_uid);
    return unlink(path) == 0 || errno == ENOENT ? 0 : unix_fail(-1, path, NULL, err);
}

/* Name of what was refused; NULL: all is set. */
static const char *adorn(const char *path, const struct ph_unix_options *options,
                         struct ph_unix_file *file)
{
    struct stat st;
    bool has_owner = options->uid != (uid_t)-1 || options->gid != (gid_t)-1;
    if (has_owner && lchown(path, options->uid, options->gid) != 0)
        return "owner";
    if (chmod(path, (mode_t)options->mode) != 0)
        return "mode";
    if (lstat(path, &st) != 0)
        return "stat";
    *file = (struct ph_unix_file){.dev = st.st_dev, .ino = st.st_ino, .maker = getpid()};
    return NULL;
}

int ph_unix_listen(struct ph_unix_file *file, const char *path,
                   const struct ph_unix_options *options, int backlog, struct ph_err *err)
{
    struct sockaddr_un un;
    socklen_t len = address(&un, path);
    bool has_file = path[0] != '@';
    *file = (struct ph_unix_file){0};
    if (has_file) {
        int rc = clear_path(path, &un, len, err);
        if (rc < 0)
            return rc;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&un, len) != 0)
        return unix_fail(fd, path, NULL, err);
    const char *refused = has_file ? adorn(path, options, file) : NULL;
    if (refused == NULL && listen(fd, backlog) == 0)
        return fd;
    int rc = unix_fail(fd, path, refused, err);
    if (has_file)
        unlink(path);
    *file = (struct ph_unix_file){0};
    return rc;
}

void ph_unix_remove(const char *path, const struct ph_unix_file *file)
{
    struct stat st;
    if (file->maker == 0 || file->maker != getpid())
        return;
    if (lstat(path, &st) == 0 && st.st_dev == file->dev && st.st_ino == file->ino)
        unlink(path);
}
