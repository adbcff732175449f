// What every access of a kernel has to pass.
#pragma once

#include "races.h"

// Fails the running thread if it may not use these bytes so, or has to share them.
void check(void* pointer, unsigned bytes, bool aligned, Access access, const void* site);
