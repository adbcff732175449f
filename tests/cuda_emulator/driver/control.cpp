// What a program that knows of the emulator can ask and set; see control.py.
#include <stdio.h>
#include <unistd.h>

#include <map>
#include <string>

#include "context.h"
#include "memory.h"
#include "options.h"
#include "profile.h"
#include "stream.h"

// At exit, with the option LEAKS: what is still allocated is a fault of the program.
class LeakCheck {
public:
    ~LeakCheck() {
        if (!options.leaks || memory.live().empty()) return;
        for (auto& item : memory.live())
            fprintf(
                stderr,
                "emulated CUDA driver: allocation %lu of %zu bytes on device %d was never freed\n",
                item.second.serial, item.second.bytes, item.second.device);
        _exit(1);
    }
};

// Made late, so that it is the first of the driver's objects to go.
void check_leaks_at_exit() { static LeakCheck leak_check; }

static std::map<std::string, unsigned long>& counts() {
    static std::map<std::string, unsigned long> all;
    return all;
}

void count(const char* what, unsigned long by) { counts()[what] += by; }

extern "C" {

int braze_emulator_set(const char* name, const char* value) {
    Call call;
    finish_all();
    return set_option(name, value);
}

// Writes an option's value as text; returns the bytes needed.
size_t braze_emulator_option(const char* name, char* text, size_t bytes) {
    std::string value = option_text(name);
    if (bytes) snprintf(text, bytes, "%s", value.c_str());
    return value.size() + 1;
}

// Writes the counts as lines "name\tnumber"; returns the bytes needed.
size_t braze_emulator_counts(char* text, size_t bytes) {
    Call call;
    std::string all;
    for (auto& item : counts()) all += item.first + "\t" + std::to_string(item.second) + "\n";
    if (bytes) snprintf(text, bytes, "%s", all.c_str());
    return all.size() + 1;
}

// Writes what profile.h says, and forgets it; returns the bytes needed.
size_t braze_emulator_profile(char* text, size_t bytes) {
    Call call;
    std::string all = profile_text();
    if (bytes) {
        snprintf(text, bytes, "%s", all.c_str());
        profile_clear();
    }
    return all.size() + 1;
}

// Writes the live allocations as lines "number\tdevice\tbytes"; returns the bytes needed.
size_t braze_emulator_allocations(char* text, size_t bytes) {
    Call call;
    std::string all;
    for (auto& item : memory.live())
        all += std::to_string(item.second.serial) + "\t" + std::to_string(item.second.device) +
               "\t" + std::to_string(item.second.bytes) + "\n";
    if (bytes) snprintf(text, bytes, "%s", all.c_str());
    return all.size() + 1;
}
}
