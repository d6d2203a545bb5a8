/* fdtable.c - see fdtable.h. */
#define _GNU_SOURCE
#include "fdtable.h"

#include "reactor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 16384 /* 8 bytes each, of the kernel's memory */

static atomic_int grown; /* fork generation + 1: a child's table is made for what is open */

/* /proc/self/task has an entry per thread, and two links of its own. */
static int one_thread(void)
{
  struct stat st;
  return !stat("/proc/self/task", &st) && st.st_nlink == 3;
}

void lc_fdtable_grow(int alone)
{
  int now = lc_fork_generation() + 1, saved = errno;
  struct rlimit limit;
  rlim_t room;
  int fd, high;

  if(atomic_load(&grown) == now || (alone && !one_thread()))
    return;
  atomic_store(&grown, now);
  if(getrlimit(RLIMIT_NOFILE, &limit))
    goto done;
  room = limit.rlim_cur < MOST ? limit.rlim_cur : MOST;
  fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if(fd < 0)
    goto done; /* it is a help only */
  high = fcntl(fd, F_DUPFD_CLOEXEC, (int)room - 1);
  if(high >= 0)
    close(high);
  close(fd);
done:
  errno = saved;
}
