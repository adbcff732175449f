// Device memory that other processes have open.
#pragma once

#include "memory.h"

bool is_open_elsewhere(const Allocation& own);
