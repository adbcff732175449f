// NVIDIA's own headers of the 16-bit floats, without the functions that they write in PTX.
#pragma once

#include <cuda_fp16.h>
#include <cuda_bf16.h>
