/* fdtable.h - room for many descriptors, made before they are needed.
 *
 * Job: Linux doubles a process's table of descriptors when it is full, and with more than one thread whoever
 * opens the next socket waits until all processors have seen the new table (expand_fdtable in its
 * fs/file.c): 5 to 30 ms at 256, at 512, at 1,024 connections ... in the event loop. One descriptor with a
 * high number, opened and closed again, makes the table large at once. Not its job: limits.
 * Used by: reactor, watch. Threads: any.
 */
#ifndef LC_FDTABLE_H
#define LC_FDTABLE_H

/* Once per process. alone: only if there is but one thread, so that nothing is waited for. */
void lc_fdtable_grow(int alone);

#endif
