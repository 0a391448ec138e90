/*
 * files.c - files that an application sends: descriptors of our own to hand to the core.
 *
 * They are opened or duplicated when the message is read, so that what is wrong with a file is an
 * error of send() before anything of it is sent, and the application may close its own at once. The
 * core closes them when it is done.
 */
#include "ext.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* The size of what `fd` is, which must be a regular file: others can neither be read at an offset
 * nor promise a length. The interpreter is free while the file system answers. */
static int file_size(int fd, PyObject *name, uint64_t *size)
{
    struct stat st;
    PyThreadState *state = PyEval_SaveThread();
    int rc = fstat(fd, &st);
    PyEval_RestoreThread(state); /* keeps errno */
    if (rc == 0 && S_ISREG(st.st_mode)) {
        *size = (uint64_t)st.st_size;
        return 0;
    }
    if (rc == 0 && !S_ISDIR(st.st_mode)) {
        PyErr_Format(PyExc_ValueError, "%R is not a regular file", name);
        return -1;
    }
    if (rc == 0)
        errno = EISDIR;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
    return -1;
}

/* O_NONBLOCK: opening a pipe would wait for its writer. */
static int open_path(PyObject *path)
{
    PyObject *bytes;
    if (!PyUnicode_FSConverter(path, &bytes))
        return -1;
    int fd;
    PyThreadState *state = PyEval_SaveThread();
    do {
        fd = open(PyBytes_AS_STRING(bytes), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (fd < 0 && errno == EINTR);
    PyEval_RestoreThread(state);
    if (fd < 0)
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    Py_DECREF(bytes);
    return fd;
}

int file_open(PyObject *path, Message *out, uint64_t *size)
{
    out->fd = open_path(path);
    out->has_file = out->fd >= 0;
    return out->has_file ? file_size(out->fd, path, size) : -1;
}

int file_take(PyObject *file, Message *out, uint64_t *size)
{
    int fd = PyObject_AsFileDescriptor(file);
    if (fd < 0)
        return -1;
    out->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    out->has_file = out->fd >= 0;
    if (out->has_file)
        return file_size(out->fd, file, size);
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

uint64_t file_position(const Message *message)
{
    off_t position = lseek(message->fd, 0, SEEK_CUR);
    return position > 0 ? (uint64_t)position : 0;
}

int file_hand_over(Message *message, ph_chan *chan, bool fin)
{
    if (message->moves) /* the application's descriptor shares it */
        lseek(message->fd, (off_t)(message->offset + message->len), SEEK_SET);
    message->has_file = false; /* taken */
    return ph_chan_send_file(chan, message->fd, message->offset, message->len, fin);
}

void file_close(Message *message)
{
    if (message->has_file)
        close(message->fd);
    message->has_file = false;
}
