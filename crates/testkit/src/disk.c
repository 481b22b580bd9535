/* Preloaded into a program, it makes every sync of a file take DELAY_MS longer, as a disk that is busy or failing. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void wait(void) {
    struct timespec delay = {DELAY_MS / 1000, DELAY_MS % 1000 * 1000000};
    syscall(SYS_nanosleep, &delay, 0);
}

int fdatasync(int file) {
    wait();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    wait();
    return (int)syscall(SYS_fsync, file);
}
