#include "profile.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "execution.h"
#include "failure.h"

struct Touch {
    uintptr_t address;
    unsigned bytes, lane;
};
struct Total {
    uint64_t requests, transfers, fewest;
};

// A line of the source, the kind of access (shared * 2 + write), the warp, and the how-manieth
// time.
typedef std::tuple<std::string, int, unsigned, unsigned> RequestKey;
static std::map<RequestKey, std::vector<Touch>> requests;
static std::map<std::tuple<std::string, std::string, int>, Total> totals;

// Of each thread: how often it made each kind of access at each line, and where its latest one is.
struct Progress {
    std::map<std::pair<std::string, int>, unsigned> times;
    std::string line;
    int kind = -1;
    std::vector<Touch>* latest = nullptr;
    size_t index = 0;
};
static std::vector<Progress> progress;

void profile_access(uintptr_t address, unsigned bytes, Access access, bool shared,
                    const void* site) {
    if (progress.size() != execution.count) progress.assign(execution.count, {});
    unsigned thread = execution.thread->index;
    Progress& own = progress[thread];
    std::string line = source_line(site);
    int kind = (shared ? 2 : 0) + (access != Access::read);
    if (bytes && own.latest && own.line == line && own.kind == kind) {
        // The compiler takes vectors apart: parts that follow one another are one access again.
        Touch& last = (*own.latest)[own.index];
        unsigned joined = last.bytes + bytes;
        if (last.address + last.bytes == address && joined <= 16 && last.address % 8 == 0) {
            last.bytes = joined;
            return;
        }
    }
    unsigned time = own.times[{line, kind}]++;
    std::vector<Touch>& request = requests[{line, kind, thread / 32, time}];
    request.push_back({address, bytes, thread % 32});
    own.line = line;
    own.kind = kind;
    own.latest = &request;
    own.index = request.size() - 1;
}

// How many distinct units of some bytes the touches lie in.
static uint64_t units(const std::vector<Touch>& touches, unsigned unit) {
    std::set<uintptr_t> found;
    for (const Touch& touch : touches)
        if (touch.bytes)
            for (uintptr_t at = touch.address / unit;
                 at <= (touch.address + touch.bytes - 1) / unit; at++)
                found.insert(at);
    return found.size();
}

static Total bank_passes(const std::vector<Touch>& touches) {
    unsigned widest = 4;
    for (const Touch& touch : touches) widest = std::max(widest, touch.bytes);
    unsigned lanes_at_once = widest > 8 ? 8 : widest > 4 ? 16 : 32;
    Total result = {1, 0, 0};
    for (unsigned first = 0; first < 32; first += lanes_at_once) {
        std::set<uintptr_t> words[32];
        for (const Touch& touch : touches)
            if (touch.lane / lanes_at_once == first / lanes_at_once)
                for (uintptr_t at = touch.address / 4; at <= (touch.address + touch.bytes - 1) / 4;
                     at++)
                    words[at % 32].insert(at);
        size_t passes = 0;
        for (auto& bank : words) passes = std::max(passes, bank.size());
        result.transfers += passes;
        result.fewest += passes > 0;
    }
    return result;
}

void profile_block_ended() {
    for (auto& [key, touches] : requests) {
        auto& [line, kind, warp, time] = key;
        Total found = kind >= 2 ? bank_passes(touches)
                                : Total{1, units(touches, 32), (units(touches, 1) + 31) / 32};
        Total& total = totals[{execution.launch->name, line, kind}];
        total.requests += found.requests;
        total.transfers += found.transfers;
        total.fewest += found.fewest;
    }
    requests.clear();
    progress.clear();
}

std::string profile_text() {
    std::string result;
    for (auto& [key, total] : totals) {
        auto& [kernel, line, kind] = key;
        result += format("%s\t%s\t%s\t%s\t%lu\t%lu\t%lu\n", kernel.c_str(), line.c_str(),
                         kind >= 2 ? "shared" : "global", kind % 2 ? "write" : "read",
                         total.requests, total.transfers, total.fewest);
    }
    return result;
}

void profile_clear() { totals.clear(); }
