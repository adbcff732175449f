// CUDA C's language for a host compiler. The stand-in `nvcc` includes this file before the source,
// or half.h where the source uses 16-bit floats.
#pragma once

// The standard library comes first: it uses names that CUDA defines as macros.
#include <assert.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "language.h"
#include "warp.h"
#include "asynchronous.h"
#include "bits.h"
#include "conversions.h"
#include "atomics.h"
#include "mathematics.h"
