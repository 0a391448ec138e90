/*
 * fault.h - what the system can refuse, refused at a chosen moment. The linker puts these functions
 * in front of malloc() and the like (meson.build: --wrap) in the program of unit tests; they count
 * what an I/O thread asks for, and nothing else.
 */
#ifndef PH_TEST_FAULT_H
#define PH_TEST_FAULT_H

#include <stdbool.h>

/* The nth allocation of the core on an I/O thread from now on fails, and so do the `more` that
 * follow it. */
void fault_alloc(long nth, long more);
/* Ends that. How many allocations were missing until the first failure; 0: it came. */
long fault_alloc_end(void);
bool fault_alloc_fired(void);

/* The next descriptor that an I/O thread wants to watch cannot be. */
void fault_watch(void);

/* How often I/O threads waited for work. */
long fault_waits(void);

#endif
