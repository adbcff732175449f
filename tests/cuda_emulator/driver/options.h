// What can be set about the emulated devices: by environment variables, or while the program runs.
#pragma once

#include <stdint.h>

#include <string>

enum class Order { forward, reverse, random };
// Whose work runs only when it is waited for; blocking are the default stream and those that keep
// order with it.
enum class Lazy { none, all, blocking };

struct Options {
    Order order = Order::forward;  // BRAZE_EMULATED_ORDER=forward|reverse|random:SEED
    uint64_t seed = 0;
    Lazy lazy = Lazy::none;  // BRAZE_EMULATED_LAZY=0|1|2
    bool profile = false;    // BRAZE_EMULATED_PROFILE=1: sectors and bank conflicts by line
    int devices = 1;         // BRAZE_EMULATED_DEVICES
    int architecture = 80;   // BRAZE_EMULATED_ARCHITECTURE=80, for compute capability 8.0
    bool leaks = false;      // BRAZE_EMULATED_LEAKS=1: a process that leaks memory fails at exit
    bool unwritten = false;  // BRAZE_EMULATED_UNWRITTEN=1: copies may take what nobody wrote
    uint64_t memory = 4ull << 30;  // BRAZE_EMULATED_MEMORY: bytes of each device
};

extern Options options;

// Sets one option by its variable's name without the prefix, as in ("ORDER", "random:3"). Returns
// false where there is no such option or value.
bool set_option(const char* name, const char* value);
std::string option_text(const char* name);
