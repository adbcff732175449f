// Element types and their reductions.
#pragma once

#include <stddef.h>

#include "api.h"

size_t bytes_of(int type);
const char* name_of(int type);

// kept[i] = given[i] combined with kept[i]; the average's division comes at the end.
void combine(int type, int operation, void* kept, const void* given, size_t count);
void divide(int type, void* kept, size_t count, int ranks);
