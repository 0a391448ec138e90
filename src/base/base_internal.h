/* base_internal.h - what the files of this module share with each other only. */
#ifndef PH_BASE_INTERNAL_H
#define PH_BASE_INTERNAL_H

#include "base.h"

/* The home list of the calling thread; NULL when it has none. */
struct ph_buf_home *ph_thread_home(void);
/* Its memory for when the system has none; NULL when it has none. */
struct ph_reserve *ph_thread_reserve(void);

#endif
