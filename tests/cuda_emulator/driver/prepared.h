// Work that was checked and can be given to a stream, at once or as a node of a graph.
#pragma once

#include <cuda.h>

#include "stream.h"

// A launch on the current context's device; its parameters are copied.
CUresult prepare_launch(CUfunction function, const unsigned* grid, const unsigned* block,
                        unsigned shared, void** pointers, void** extra, Work* work);

CUresult prepare_fill(const CUDA_MEMSET_NODE_PARAMS& what, Work* work);
