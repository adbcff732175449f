#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>

static const char* const NAMES[] = {"ORDER",        "LAZY",   "PROFILE",   "DEVICES",
                                    "ARCHITECTURE", "MEMORY", "UNWRITTEN", "LEAKS"};

static bool parse(const char* text, uint64_t* number) {
    char* end;
    *number = strtoull(text, &end, 10);
    return *text && !*end;
}

static bool set(Options* into, const std::string& name, const char* value) {
    if (name == "ORDER") {
        if (!strncmp(value, "random:", 7)) {
            into->order = Order::random;
            return parse(value + 7, &into->seed);
        }
        into->order = !strcmp(value, "reverse") ? Order::reverse : Order::forward;
        return into->order == Order::reverse || !strcmp(value, "forward");
    }
    uint64_t number;
    if (!parse(value, &number)) return false;
    if (name == "LAZY") {
        if (number > 2) return false;
        into->lazy = (Lazy)number;
    } else if (name == "PROFILE") into->profile = number != 0;
    else if (name == "DEVICES") into->devices = (int)number;
    else if (name == "ARCHITECTURE") into->architecture = (int)number;
    else if (name == "MEMORY") into->memory = number;
    else if (name == "UNWRITTEN") into->unwritten = number != 0;
    else if (name == "LEAKS") into->leaks = number != 0;
    else return false;
    return true;
}

static Options from_environment() {
    Options result;
    for (const char* name : NAMES) {
        const char* value = getenv((std::string("BRAZE_EMULATED_") + name).c_str());
        if (value && *value && !set(&result, name, value)) {
            fprintf(stderr, "BRAZE_EMULATED_%s=%s: no such value\n", name, value);
            exit(2);
        }
    }
    return result;
}

Options options = from_environment();

bool set_option(const char* name, const char* value) { return set(&options, name, value); }

std::string option_text(const char* text) {
    std::string name = text;
    if (name == "ORDER")
        return options.order == Order::forward   ? "forward"
               : options.order == Order::reverse ? "reverse"
                                                 : "random:" + std::to_string(options.seed);
    uint64_t value = name == "LAZY"           ? (uint64_t)options.lazy
                     : name == "PROFILE"      ? options.profile
                     : name == "DEVICES"      ? (uint64_t)options.devices
                     : name == "ARCHITECTURE" ? (uint64_t)options.architecture
                     : name == "MEMORY"       ? options.memory
                     : name == "LEAKS"        ? options.leaks
                                              : options.unwritten;
    return std::to_string(value);
}
