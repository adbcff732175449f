// Copies to shared memory that are waited for later: what PTX calls cp.async and its groups.
#pragma once

#ifdef __SANITIZE_THREAD__
#define BRAZE_IS_CHECKED 1
#else
#define BRAZE_IS_CHECKED 0
#endif

BRAZE_DEVICE void braze_cp_async(void* to, const void* from, unsigned bytes, unsigned read) {
    braze_copy_async(to, from, bytes, read, BRAZE_IS_CHECKED);
}
BRAZE_DEVICE void braze_cp_async_commit_group() { braze_copy_commit(); }
BRAZE_DEVICE void braze_cp_async_wait_group(unsigned latest) { braze_copy_wait(latest); }
