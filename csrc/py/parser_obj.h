/* parser_obj.h - the push parsers of event streams as Python types.
 *
 * Job: declarations only. Used by: module.c. Threads: the GIL.
 */
#ifndef LC_PARSER_OBJ_H
#define LC_PARSER_OBJ_H

#include "compat.h"

/* Puts EventParser, LineParser and DeltaParser into the module. 0, or -1 + exception. */
int lc_parsers_add(PyObject *module);

#endif
