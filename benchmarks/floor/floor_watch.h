/* floor_watch.h - the epoll set and the sockets libcurl opens.
 *
 * Job: libcurl's socket callbacks, sticky registration, turning an event into
 * (lane, fd, bits). Not its job: calling libcurl. Used by: floor.c.
 * Threads: one.
 */
#ifndef FLOOR_WATCH_H
#define FLOOR_WATCH_H

#include <curl/curl.h>
#include <stdint.h>

struct lane;
struct epoll_event;

/* Ends the program with errno's message. */
void floor_fatal(const char *what);

/* `batch`: events per wait. `sticky`: keep an fd in the set when libcurl asks
 * to unwatch it, until it is closed. Ends the program on failure. */
void floor_watch_init(long batch, int sticky);
void floor_watch_free(void);
/* Connections opened so far. */
uint64_t floor_watch_opened(void);

/* Number of events; `*evs` is borrowed until the next wait. */
long floor_watch_wait(int ms, struct epoll_event **evs);
/* The lane to act on with `*fd` and `*bits`, or NULL if there is none. */
struct lane *floor_watch_event(const struct epoll_event *ev, int *fd,
                               int *bits);

/* For CURLMOPT_SOCKETFUNCTION (its user pointer is the lane),
 * CURLOPT_OPENSOCKETFUNCTION and CURLOPT_CLOSESOCKETFUNCTION. */
int floor_watch_socket(CURL *easy, curl_socket_t fd, int what, void *user,
                       void *assigned);
curl_socket_t floor_watch_open(void *user, curlsocktype purpose,
                               struct curl_sockaddr *addr);
int floor_watch_close(void *user, curl_socket_t fd);

/* tcp(7) TCP_CORK; 0 = done. */
int floor_watch_cork(int fd, int on);

#endif
