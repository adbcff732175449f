// Graphs of kernels and fills, made node by node, and what can be launched of them.
//
// A node runs when those that it comes after are done; which of several that could run is next is
// a question of the option ORDER, so that a dependency that is missing shows. A launch takes the
// parameters that it finds: what is set later is for later launches.
#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "context.h"
#include "failure.h"
#include "memory.h"
#include "options.h"
#include "prepared.h"

struct CUgraphNode_st {
    uint64_t number;  // no other node of the process has it
    CUgraphNodeType type;
    int device;
    std::vector<size_t> after;  // places of nodes in the graph
    Work work;
};

struct CUgraph_st {
    std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
};

struct CUgraphExec_st {
    int device;
    std::vector<CUgraphNode_st> nodes;
};

static std::set<CUgraph> graphs;
static std::set<CUgraphExec> execs;
static uint64_t made;

static CUresult no_such(const char* what) {
    return fail(CUDA_ERROR_INVALID_VALUE, format("no such %s", what));
}

CUresult CUDAAPI cuGraphCreate(CUgraph* graph, unsigned flags) {
    Call call;
    if (flags) return fail(CUDA_ERROR_INVALID_VALUE, "a graph has no flags");
    graphs.insert(*graph = new CUgraph_st());
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphDestroy(CUgraph graph) {
    Call call;
    if (!graphs.erase(graph)) return no_such("graph");
    delete graph;
    return CUDA_SUCCESS;
}

static CUresult add(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count,
                    CUgraphNodeType type, Work work) {
    std::vector<size_t> places;
    for (size_t i = 0; i < count; i++) {
        auto at = std::find_if(graph->nodes.begin(), graph->nodes.end(),
                               [&](auto& own) { return own.get() == after[i]; });
        if (at == graph->nodes.end())
            return fail(CUDA_ERROR_INVALID_VALUE, "a dependency on a node of another graph");
        places.push_back((size_t)(at - graph->nodes.begin()));
        if (std::count(places.begin(), places.end(), places.back()) > 1)
            return fail(CUDA_ERROR_INVALID_VALUE, "a dependency is given twice");
    }
    int device = current_context()->device;
    graph->nodes.emplace_back(new CUgraphNode_st{++made, type, device, places, std::move(work)});
    *node = graph->nodes.back().get();
    return CUDA_SUCCESS;
}

static CUresult prepare(const CUDA_KERNEL_NODE_PARAMS& p, Work* work) {
    unsigned grid[3] = {p.gridDimX, p.gridDimY, p.gridDimZ};
    unsigned block[3] = {p.blockDimX, p.blockDimY, p.blockDimZ};
    return prepare_launch(p.func, grid, block, p.sharedMemBytes, p.kernelParams, p.extra, work);
}

CUresult CUDAAPI cuGraphAddKernelNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                                      size_t count, const CUDA_KERNEL_NODE_PARAMS* params) {
    NEED_CONTEXT("cuGraphAddKernelNode");
    if (!graphs.count(graph)) return no_such("graph");
    Work work;
    CUresult result = prepare(*params, &work);
    if (result != CUDA_SUCCESS) return result;
    return add(node, graph, after, count, CU_GRAPH_NODE_TYPE_KERNEL, std::move(work));
}

CUresult CUDAAPI cuGraphAddMemsetNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                                      size_t count, const CUDA_MEMSET_NODE_PARAMS* params,
                                      CUcontext own) {
    NEED_CONTEXT("cuGraphAddMemsetNode");
    if (!graphs.count(graph)) return no_such("graph");
    if (own != context) return fail(CUDA_ERROR_INVALID_VALUE, "a fill in another context");
    Work work;
    CUresult result = prepare_fill(*params, &work);
    if (result != CUDA_SUCCESS) return result;
    return add(node, graph, after, count, CU_GRAPH_NODE_TYPE_MEMSET, std::move(work));
}

CUresult CUDAAPI cuGraphInstantiate(CUgraphExec* exec, CUgraph graph, unsigned long long flags) {
    NEED_CONTEXT("cuGraphInstantiateWithFlags");
    if (!graphs.count(graph)) return no_such("graph");
    if (flags) return fail(CUDA_ERROR_NOT_SUPPORTED, "flags of graphs are not emulated");
    auto* copy = new CUgraphExec_st{context->device, {}};
    for (auto& node : graph->nodes) copy->nodes.push_back(*node);
    execs.insert(*exec = copy);
    count("graphs");
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec exec) {
    Call call;
    if (!execs.erase(exec)) return no_such("executable graph");
    delete exec;
    count("graphs destroyed");
    return CUDA_SUCCESS;
}

// The executable graph's own node for one of the graph that it was made of, which must be there.
static CUresult find_node(CUgraphExec exec, CUgraphNode node, CUgraphNodeType type,
                          CUgraphNode_st** found) {
    if (!execs.count(exec)) return no_such("executable graph");
    bool live = std::any_of(graphs.begin(), graphs.end(), [&](CUgraph graph) {
        return std::any_of(graph->nodes.begin(), graph->nodes.end(),
                           [&](auto& own) { return own.get() == node; });
    });
    if (!live) return no_such("node: was its graph destroyed?");
    for (auto& own : exec->nodes)
        if (own.number == node->number) {
            *found = &own;
            return own.type == type ? CUDA_SUCCESS : no_such("node of this type");
        }
    return fail(CUDA_ERROR_INVALID_VALUE, "a node of another graph");
}

CUresult CUDAAPI cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                const CUDA_KERNEL_NODE_PARAMS* params) {
    NEED_CONTEXT("cuGraphExecKernelNodeSetParams");
    CUgraphNode_st* own = nullptr;
    CUresult result = find_node(exec, node, CU_GRAPH_NODE_TYPE_KERNEL, &own);
    if (result != CUDA_SUCCESS) return result;
    if (own->device != context->device)
        return fail(CUDA_ERROR_INVALID_VALUE, "a node's kernel must stay on its device");
    Work work;
    result = prepare(*params, &work);
    if (result != CUDA_SUCCESS) return result;
    own->work = std::move(work);
    count("graph updates");
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                const CUDA_MEMSET_NODE_PARAMS* params,
                                                CUcontext) {
    NEED_CONTEXT("cuGraphExecMemsetNodeSetParams");
    CUgraphNode_st* own = nullptr;
    CUresult result = find_node(exec, node, CU_GRAPH_NODE_TYPE_MEMSET, &own);
    if (result != CUDA_SUCCESS) return result;
    if (own->device != context->device)
        return fail(CUDA_ERROR_INVALID_VALUE, "a node's fill must stay on its device");
    if (params->height != 1)
        return fail(CUDA_ERROR_INVALID_VALUE, "only fills of one row can be changed");
    Work work;
    result = prepare_fill(*params, &work);
    if (result != CUDA_SUCCESS) return result;
    own->work = std::move(work);
    count("graph updates");
    return CUDA_SUCCESS;
}

static CUresult run(std::vector<CUgraphNode_st>& nodes, uint64_t launch) {
    std::vector<size_t> waits(nodes.size()), ready;
    std::vector<std::vector<size_t>> next(nodes.size());
    for (size_t i = 0; i < nodes.size(); i++) {
        for (size_t other : nodes[i].after) next[other].push_back(i);
        if (!(waits[i] = nodes[i].after.size())) ready.push_back(i);
    }
    std::mt19937_64 random(options.seed + launch);
    while (!ready.empty()) {
        std::sort(ready.begin(), ready.end());
        size_t turn = options.order == Order::forward   ? 0
                      : options.order == Order::reverse ? ready.size() - 1
                                                        : random() % ready.size();
        size_t node = ready[turn];
        ready.erase(ready.begin() + (long)turn);
        CUresult result = nodes[node].work();
        if (result != CUDA_SUCCESS) return result;
        for (size_t other : next[node])
            if (!--waits[other]) ready.push_back(other);
    }
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    NEED_CONTEXT("cuGraphLaunch");
    if (!execs.count(exec)) return no_such("executable graph");
    if (exec->device != context->device)
        return fail(CUDA_ERROR_INVALID_VALUE, "a graph of another device");
    count("graph launches");
    static uint64_t launches;
    return enqueue(stream, [nodes = exec->nodes, launch = ++launches]() mutable {
        return run(nodes, launch);
    });
}
