// How a fault is told: a CUDA error code and a text that PyCUDA shows to the user.
#pragma once

#include <cuda.h>

#include <string>

std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

// Notes the text for cuGetErrorString, and returns the code.
CUresult fail(CUresult code, const std::string& text);

// Where in the user's source a return address lies, as "kernel.cu:7", or "" if nothing is known.
std::string source_line(const void* return_address);

// Before a module goes, since another may come to lie at its addresses.
void forget_source_lines();
