#include "module.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "context.h"
#include "failure.h"
#include "memory.h"
#include "options.h"
#include "stream.h"

static std::vector<std::unique_ptr<Module>> modules;

// The libraries lie in a folder of this process, since the loader and addr2line read files.
class Folder {
public:
    ~Folder() {
        if (path_.empty() || owner_ != getpid()) return;
        for (auto& module : modules) unlink(module->path.c_str());
        rmdir(path_.c_str());
    }
    std::string next_file() {
        if (path_.empty() || owner_ != getpid()) {
            char name[] = "/tmp/emulated-cuda-XXXXXX";
            path_ = mkdtemp(name) ? name : "";
            owner_ = getpid();
        }
        return path_ + "/" + std::to_string(++files_) + ".so";
    }

private:
    std::string path_;
    pid_t owner_ = 0;
    int files_ = 0;
};
static Folder folder;

bool is_module_memory(uintptr_t address, size_t bytes) {
    return std::any_of(modules.begin(), modules.end(),
                       [&](auto& module) { return module->holds(address, bytes); });
}

void check_peer(uintptr_t address, const void* site) {
    const Launch& launch = *execution.launch;
    if (!launch.peers->count(memory.device_of(address)))
        execution.thread_failed(CUDA_ERROR_ILLEGAL_ADDRESS,
                                format("uses another device's memory without peer access: %s",
                                       memory.describe(address).c_str()),
                                site);
}

uintptr_t Module::shared_base() const {
    return (uintptr_t)dlsym(library, "braze_dynamic_shared") - dynamic_offset;
}

std::vector<Variable> Module::variables_of(const Launch& launch) const {
    std::vector<Variable> result;
    uintptr_t base = shared_base();
    for (const BrazeSharedVariable& v : functions.at(launch.name).variables)
        result.push_back({base + v.offset, v.bytes});
    if (launch.dynamic_shared) result.push_back({base + dynamic_offset, launch.dynamic_shared});
    return result;
}

static std::string symbol_at(const void* address) {
    Dl_info info;
    return dladdr(address, &info) && info.dli_sname ? info.dli_sname : "";
}

static int find_range(dl_phdr_info* info, size_t, void* data) {
    Module* module = (Module*)data;
    if (info->dlpi_addr != module->first) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            module->last =
                std::max<uintptr_t>(module->last, module->first + info->dlpi_phdr[i].p_vaddr +
                                                      info->dlpi_phdr[i].p_memsz);
    return 1;
}

// Reads the tables that the stand-in `nvcc` put into the library.
static void find_functions(Module* module) {
    auto kernels = (const BrazeKernel*)dlsym(module->library, "braze_kernels");
    auto variables = (const BrazeSharedVariable*)dlsym(module->library, "braze_shared_variables");
    module->dynamic_offset = *(const uint64_t*)dlsym(module->library, "braze_dynamic_offset");
    module->shared_bytes = module->dynamic_offset + BRAZE_MOST_SHARED;
    for (auto v = variables; v->function; v++)
        module->shared_bytes = std::max<size_t>(module->shared_bytes, v->offset + v->bytes);
    for (auto kernel = kernels; kernel->function; kernel++) {
        std::string name = symbol_at((const void*)kernel->function);
        Function& function = module->functions[name];
        function.module = module;
        function.kernel = kernel;
        function.name = name;
        function.static_shared = 0;
        for (auto v = variables; v->function; v++)
            if (v->function == kernel->function) {
                function.variables.push_back(*v);
                function.static_shared += (unsigned)v->bytes;
            }
        function.most_dynamic_shared = 48 * 1024 - std::min(48u * 1024, function.static_shared);
    }
}

// Machine code runs on GPUs of its major number, whose minor number is no less.
static bool runs_here(int architecture) {
    int own = options.architecture;
    return !architecture ||
           (architecture / 10 == own / 10 && architecture % 10 <= own % 10);
}

static CUresult load(CUmodule* handle, const void* image, size_t bytes) {
    NEED_CONTEXT("cuModuleLoad");
    std::unique_ptr<Module> module(new Module());
    module->device = context->device;
    module->path = folder.next_file();
    FILE* file = fopen(module->path.c_str(), "wb");
    bool written = file && fwrite(image, 1, bytes, file) == bytes;
    if (file) fclose(file);
    module->library = written ? dlopen(module->path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (!module->library || !dlsym(module->library, "braze_kernels")) {
        const char* why = dlerror();
        unlink(module->path.c_str());
        return fail(CUDA_ERROR_INVALID_IMAGE, why ? why : "cannot write the module to a file");
    }
    auto architecture = (const int*)dlsym(module->library, "braze_architecture");
    if (architecture && !runs_here(*architecture)) {
        std::string why = format("the machine code is for sm_%d, this GPU is sm_%d", *architecture,
                                 options.architecture);
        dlclose(module->library);
        unlink(module->path.c_str());
        return fail(CUDA_ERROR_NO_BINARY_FOR_GPU, why);
    }
    Dl_info info;
    dladdr(dlsym(module->library, "braze_kernels"), &info);
    module->first = module->last = (uintptr_t)info.dli_fbase;
    dl_iterate_phdr(find_range, module.get());
    find_functions(module.get());
    count("modules");
    *handle = (CUmodule)module.get();
    modules.push_back(std::move(module));
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleLoadData(CUmodule* module, const void* image) {
    auto header = (const Elf64_Ehdr*)image;
    if (memcmp(image, ELFMAG, SELFMAG) || header->e_machine != EM_X86_64)
        return fail(CUDA_ERROR_INVALID_IMAGE,
                    "no module of the emulator's nvcc: was another nvcc first on the PATH?");
    // The section headers come last.
    return load(module, image, header->e_shoff + (size_t)header->e_shnum * header->e_shentsize);
}

CUresult CUDAAPI cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned, CUjit_option*,
                                    void**) {
    return cuModuleLoadData(module, image);
}

CUresult CUDAAPI cuModuleLoad(CUmodule* module, const char* path) {
    FILE* file = fopen(path, "rb");
    if (!file) return fail(CUDA_ERROR_FILE_NOT_FOUND, path);
    std::string image;
    char buffer[65536];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;) image.append(buffer, n);
    fclose(file);
    if (image.size() < sizeof(Elf64_Ehdr)) return fail(CUDA_ERROR_INVALID_IMAGE, path);
    return cuModuleLoadData(module, image.data());
}

CUresult CUDAAPI cuModuleUnload(CUmodule handle) {
    Call call;
    auto at = std::find_if(modules.begin(), modules.end(),
                           [&](auto& module) { return module.get() == (Module*)handle; });
    if (at == modules.end()) return CUDA_ERROR_INVALID_HANDLE;
    CUresult result = finish_all();
    forget_source_lines();
    dlclose((*at)->library);
    unlink((*at)->path.c_str());
    modules.erase(at);
    return result;
}

CUresult CUDAAPI cuModuleGetFunction(CUfunction* function, CUmodule handle, const char* name) {
    Call call;
    auto& functions = ((Module*)handle)->functions;
    auto at = functions.find(name);
    if (at == functions.end()) {
        std::string known;
        for (auto& item : functions) known += " " + item.first;
        return fail(CUDA_ERROR_NOT_FOUND,
                    format("no kernel %s; there are:%s", name, known.c_str()));
    }
    *function = (CUfunction)&at->second;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleGetGlobal(CUdeviceptr* pointer, size_t* bytes, CUmodule handle,
                                   const char* name) {
    Call call;
    void* address = dlsym(((Module*)handle)->library, name);
    Dl_info info;
    const ElfW(Sym)* symbol = nullptr;
    if (!address || !dladdr1(address, &info, (void**)&symbol, RTLD_DL_SYMENT) || !symbol)
        return fail(CUDA_ERROR_NOT_FOUND, format("no variable %s", name));
    if (pointer) *pointer = (CUdeviceptr)address;
    if (bytes) *bytes = symbol->st_size;
    return CUDA_SUCCESS;
}
