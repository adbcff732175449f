// What the option PROFILE collects: how the warps' requests to memory fall on sectors and banks.
//
// The lanes of a warp that reach a line for the same time make one request. To global memory it
// takes as many transfers as it touches sectors of 32 bytes; in shared memory, as many passes as
// some bank has words to give, where accesses of 8 and 16 bytes go by halves and quarters of the
// warp.
#pragma once

#include <stdint.h>

#include <string>

#include "races.h"

// A lane that takes part in a request, but touches nothing, comes with no bytes.
void profile_access(uintptr_t address, unsigned bytes, Access access, bool shared,
                    const void* site);
void profile_block_ended();

// Lines of "kernel, place, space, access, requests, transfers, fewest transfers", with tabs
// between.
std::string profile_text();
void profile_clear();
