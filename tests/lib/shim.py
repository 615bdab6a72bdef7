"""Compiles a small library for LD_PRELOAD that makes syncs or writes of a program fail, take long, or do nothing.

It is for what neither the product nor strace offers: a relay without any sync (the control that a power-cut test must
fail), a disk whose syncs take SHIM_SYNC_DELAY_US longer (strace would slow down everything else, too), and a fault at
the N-th write to files whose names are not known before (body files; `strace -P` wants whole paths). It reaches a program that is linked against the C library dynamically, and no other.
"""

import subprocess

import packages
from relay import Fault

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_long calls;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static void delay(void) {
    long microseconds = number("SHIM_SYNC_DELAY_US");
    if (microseconds) usleep(microseconds);
}

int fsync(int fd) {
    if (number("SHIM_NO_SYNC")) return 0;
    delay();
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return real(fd);
}

int fdatasync(int fd) {
    if (number("SHIM_NO_SYNC")) return 0;
    delay();
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return real(fd);
}

int sync_file_range(int fd, off64_t offset, off64_t count, unsigned int flags) {
    if (number("SHIM_NO_SYNC")) return 0;
    int (*real)(int, off64_t, off64_t, unsigned int) =
        (int (*)(int, off64_t, off64_t, unsigned int))dlsym(RTLD_NEXT, "sync_file_range");
    return real(fd, offset, count, flags);
}

/* Whether the descriptor is a body file. */
static int is_body(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 4 && memcmp(path + length - 4, ".eml", 4) == 0;
}

ssize_t write(int fd, const void *octets, size_t count) {
    ssize_t (*real)(int, const void *, size_t) = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    long at = number("SHIM_BODY_WRITE");
    if (at && is_body(fd)) {
        long call = atomic_fetch_add(&calls, 1) + 1;
        if (call == at || (call > at && number("SHIM_PERSISTS"))) {
            if (getenv("SHIM_MARK")) close(creat(getenv("SHIM_MARK"), 0600));
            /* Half of it goes to the disk, as with a device that fails midway; the call says that all failed. */
            real(fd, octets, count / 2);
            errno = (int)number("SHIM_ERROR");
            return -1;
        }
    }
    return real(fd, octets, count);
}
"""


def wrapper(workplace, binary, **settings):
    """Words before a command that load the library with these settings, such as SHIM_NO_SYNC=1."""
    packages.need({"gcc": "gcc"})
    source, library = workplace.directory / "shim.c", workplace.directory / "shim.so"
    if b"libc.so" not in binary.read_bytes():
        raise Fault(f"{binary} is linked statically: a library cannot be put before its syncs")
    source.write_text(SOURCE)
    command = ["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Fault(f"gcc: {done.stdout[-1000:]}")
    return ["env", f"LD_PRELOAD={library}", *(f"{name}={value}" for name, value in settings.items())]
