/* test_unix.c - listening on paths and on descriptors from outside (src/io/unix.c, inherit.c). */
#include "../../src/io/io.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct ph_unix_options plain = {.mode = 0666, .uid = (uid_t)-1, .gid = (gid_t)-1};

struct place {
    char dir[64], path[96];
    struct ph_unix_file file;
    struct ph_err err;
};

static void place_init(struct place *place)
{
    memset(place, 0, sizeof(*place));
    snprintf(place->dir, sizeof(place->dir), "/tmp/pronghorn-unix-XXXXXX");
    CHECK(mkdtemp(place->dir) != NULL);
    snprintf(place->path, sizeof(place->path), "%s/s", place->dir);
}

static void place_fini(struct place *place)
{
    unlink(place->path);
    CHECK_INT(rmdir(place->dir), ==, 0);
}

static int place_listen(struct place *place)
{
    return ph_unix_listen(&place->file, place->path, &plain, 8, &place->err);
}

static bool can_connect(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    memcpy(un.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(fd, >=, 0);
    bool ok = connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0;
    close(fd);
    return ok;
}

TEST(unix, accepts_without_addresses)
{
    struct place place;
    struct ph_tcp_spare spare;
    struct ph_addr remote, local;
    place_init(&place);
    ph_tcp_spare_init(&spare);
    int fd = place_listen(&place);
    CHECK_INT(fd, >=, 0);
    CHECK(can_connect(place.path));
    int conn = ph_tcp_accept(fd, &spare, &remote, &local);
    CHECK_INT(conn, >=, 0);
    CHECK_INT(remote.len, ==, 0);
    CHECK_INT(local.len, ==, 0);
    close(conn);
    close(fd);
    ph_tcp_spare_fini(&spare);
    place_fini(&place);
}

TEST(unix, mode_is_what_was_asked_for_whatever_the_umask)
{
    struct place place;
    struct stat st;
    place_init(&place);
    mode_t before = umask(0777);
    struct ph_unix_options options = plain;
    options.mode = 0640;
    int fd = ph_unix_listen(&place.file, place.path, &options, 8, &place.err);
    umask(before);
    CHECK_INT(fd, >=, 0);
    CHECK_INT(stat(place.path, &st), ==, 0);
    CHECK_INT(st.st_mode & 0777, ==, 0640);
    close(fd);
    place_fini(&place);
}

TEST(unix, replaces_what_a_dead_server_left)
{
    struct place place;
    place_init(&place);
    int fd = place_listen(&place);
    CHECK_INT(fd, >=, 0);
    close(fd); /* as after a crash: the file stays */
    CHECK_INT(access(place.path, F_OK), ==, 0);
    fd = place_listen(&place);
    CHECK_INT(fd, >=, 0);
    CHECK(can_connect(place.path));
    close(fd);
    place_fini(&place);
}

TEST(unix, leaves_a_live_server_alone)
{
    struct place place, second;
    place_init(&place);
    int fd = place_listen(&place);
    CHECK_INT(fd, >=, 0);
    second = place;
    CHECK_INT(place_listen(&second), ==, PH_E_IO);
    CHECK(strstr(second.err.text, "a server listens there") != NULL);
    CHECK_INT(second.file.maker, ==, 0);
    CHECK(can_connect(place.path));
    close(fd);
    place_fini(&place);
}

TEST(unix, leaves_files_that_are_no_sockets_alone)
{
    struct place place;
    place_init(&place);
    int fd = open(place.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK_INT(fd, >=, 0);
    close(fd);
    CHECK_INT(place_listen(&place), ==, PH_E_IO);
    CHECK(strstr(place.err.text, "not a socket") != NULL);
    CHECK_INT(access(place.path, F_OK), ==, 0);
    place_fini(&place);
}

TEST(unix, leaves_a_dead_socket_of_another_user_alone)
{
    struct place place;
    if (geteuid() != 0)
        return; /* only root can make one */
    place_init(&place);
    CHECK_INT(chmod(place.dir, 0777), ==, 0);
    int fd = place_listen(&place);
    CHECK_INT(fd, >=, 0);
    close(fd);
    pid_t child = fork();
    if (child == 0) {
        bool refused = seteuid(65534) == 0 && place_listen(&place) == PH_E_IO &&
                       strstr(place.err.text, "another user") != NULL;
        _exit(refused ? 0 : 1);
    }
    int status = -1;
    CHECK_INT(waitpid(child, &status, 0), ==, child);
    CHECK_INT(status, ==, 0);
    CHECK_INT(access(place.path, F_OK), ==, 0);
    place_fini(&place);
}

TEST(unix, names_the_directory_that_is_missing)
{
    struct ph_unix_file file;
    struct ph_err err = {""};
    CHECK_INT(ph_unix_listen(&file, "/nowhere/at/all", &plain, 8, &err), ==, PH_E_IO);
    CHECK(strstr(err.text, "unix:/nowhere/at/all: ") != NULL);
}

TEST(unix, only_the_maker_removes_the_file_and_only_his_own)
{
    struct place place;
    place_init(&place);
    int fd = place_listen(&place);
    CHECK_INT(fd, >=, 0);
    pid_t child = fork();
    if (child == 0) {
        ph_unix_remove(place.path, &place.file);
        _exit(access(place.path, F_OK) == 0 ? 0 : 1);
    }
    int status = -1;
    CHECK_INT(waitpid(child, &status, 0), ==, child);
    CHECK_INT(status, ==, 0);

    struct ph_unix_file first = place.file;
    close(fd);
    fd = place_listen(&place); /* a successor */
    CHECK_INT(fd, >=, 0);
    if (first.ino != place.file.ino) { /* some file systems give the number out again at once */
        ph_unix_remove(place.path, &first);
        CHECK_INT(access(place.path, F_OK), ==, 0);
    }
    ph_unix_remove(place.path, &place.file);
    CHECK_INT(access(place.path, F_OK), !=, 0);
    close(fd);
    place_fini(&place);
}

TEST(unix, abstract_names_have_no_file)
{
    struct ph_unix_file file;
    struct ph_addr addr;
    struct ph_err err = {""};
    char name[64], path[PH_UNIX_PATH_MAX + 2];
    snprintf(name, sizeof(name), "@pronghorn-test-%ld", (long)getpid());
    int fd = ph_unix_listen(&file, name, &plain, 8, &err);
    CHECK_INT(fd, >=, 0);
    CHECK_INT(file.maker, ==, 0);
    int copy = ph_inherit_listener(fd, 8, &addr, path, &err);
    CHECK_INT(copy, >=, 0);
    CHECK_STR(path, name);
    close(copy);
    close(fd);
}

/* --- inherit --- */

TEST(inherit, takes_a_bound_socket_and_makes_it_listen)
{
    struct ph_addr addr;
    struct ph_err err = {""};
    char path[PH_UNIX_PATH_MAX + 2];
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(fd, (struct sockaddr *)&in, sizeof(in)), ==, 0);
    int copy = ph_inherit_listener(fd, 8, &addr, path, &err);
    CHECK_INT(copy, >=, 0);
    CHECK_INT(copy, !=, fd);
    CHECK_INT(ph_addr_port(&addr), >, 0);
    CHECK_STR(path, "");
    CHECK_INT(fcntl(copy, F_GETFL) & O_NONBLOCK, !=, 0);
    CHECK_INT(fcntl(copy, F_GETFD) & FD_CLOEXEC, !=, 0);
    int value = 0;
    socklen_t len = sizeof(value);
    CHECK_INT(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len), ==, 0);
    CHECK_INT(value, ==, 1);
    close(copy);
    close(fd);
}

TEST(inherit, refuses_what_is_no_such_socket)
{
    struct ph_addr addr;
    struct ph_err err = {""};
    char path[PH_UNIX_PATH_MAX + 2];
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int dgram = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_INT(ph_inherit_listener(file, 8, &addr, path, &err), ==, PH_E_CONFIG);
    CHECK_INT(ph_inherit_listener(udp, 8, &addr, path, &err), ==, PH_E_CONFIG);
    CHECK_INT(ph_inherit_listener(1000000, 8, &addr, path, &err), ==, PH_E_CONFIG);
    CHECK(strstr(err.text, "descriptor 1000000 is not a TCP or Unix stream socket") != NULL);
    CHECK_INT(ph_inherit_udp(dgram, &err), ==, PH_E_CONFIG);
    CHECK_INT(ph_inherit_udp(udp, &err), ==, PH_E_CONFIG);
    CHECK(strstr(err.text, "is not bound") != NULL);
    close(file);
    close(udp);
    close(dgram);
}

/* A child of its own: the numbers from 3 on are its to place. */
static void in_child(bool (*check)(void))
{
    pid_t child = fork();
    if (child == 0) {
        close(3);
        close(4);
        close(5);
        bool placed = socket(AF_INET, SOCK_STREAM, 0) == 3 && socket(AF_INET, SOCK_DGRAM, 0) == 4 &&
                      socket(AF_UNIX, SOCK_STREAM, 0) == 5;
        _exit(placed && check() ? 0 : 1);
    }
    int status = -1;
    CHECK_INT(waitpid(child, &status, 0), ==, child);
    CHECK_INT(status, ==, 0);
}

static void set_env(const char *pid, const char *fds, const char *names)
{
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", fds, 1);
    setenv("LISTEN_FDNAMES", names, 1);
}

static bool by_type_and_name(void)
{
    char pid[16];
    int out[4];
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    set_env(pid, "3", "web:quic:admin");
    if (ph_inherit_list(out, 4, SOCK_STREAM, NULL) != 2 || out[0] != 3 || out[1] != 5)
        return false;
    if (ph_inherit_list(out, 4, SOCK_DGRAM, NULL) != 1 || out[0] != 4)
        return false;
    if (ph_inherit_list(out, 4, SOCK_STREAM, "admin") != 1 || out[0] != 5)
        return false;
    if (ph_inherit_list(out, 1, SOCK_STREAM, NULL) != 1)
        return false;
    return ph_inherit_list(out, 4, SOCK_STREAM, "quic") == 0 &&
           ph_inherit_list(out, 4, SOCK_STREAM, "adm") == 0;
}

TEST(inherit, a_service_managers_sockets_by_type_and_name)
{
    in_child(by_type_and_name);
}

static bool for_others(void)
{
    char pid[16];
    int out[4];
    set_env("1", "3", "a:b:c");
    if (ph_inherit_list(out, 4, SOCK_STREAM, NULL) != 0)
        return false;
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    set_env(pid, "3x", "");
    if (ph_inherit_list(out, 4, SOCK_STREAM, NULL) != 0)
        return false;
    set_env(pid, "99999999999999999999", "");
    if (ph_inherit_list(out, 4, SOCK_STREAM, NULL) != 0)
        return false;
    set_env(pid, "-1", "");
    return ph_inherit_list(out, 4, SOCK_STREAM, NULL) == 0;
}

TEST(inherit, what_is_meant_for_others_is_not_ours)
{
    in_child(for_others);
}
