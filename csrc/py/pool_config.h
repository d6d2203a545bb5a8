/* pool_config.h - from a dict of the Python layer to an lc_pool_config.
 *
 * Job: types and ranges; unknown keys are errors. Used by: pool_obj.
 * Threads: the loop's.
 */
#ifndef LC_POOL_CONFIG_H
#define LC_POOL_CONFIG_H

#include "state.h"

/* Fills pool->config. 0, or -1 + exception. */
int lc_pool_configure(lc_pool *pool, PyObject *dict);
/* Loads the certificates it names, before the first connection that needs them. */
int lc_pool_configure_trust(mod_state *st, lc_pool *pool, PyObject *dict);

#endif
