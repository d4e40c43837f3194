/* fiber.cpp - switching stacks. A switch saves the registers that a called function must keep (x86-64 System V) and is
 * some ten instructions; ucontext would enter the kernel twice for the signal mask. The address sanitizer is told of
 * each switch, or it would take one fiber's frames for another's. */
#include <sys/mman.h>
#include <cstdio>
#include <cstdlib>
#include "emulation/inside.cuh"

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" void oc_emulation_switch(void **save, void *load);
asm(R"(
    .text
    .globl oc_emulation_switch
    .hidden oc_emulation_switch
    .type oc_emulation_switch, @function
oc_emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size oc_emulation_switch, . - oc_emulation_switch
)");

namespace emulation
{
enum { SAVED_REGISTERS = 6, GUARD_BYTES = 4096 };
static thread_local void *scheduler_sp; /* of the system thread whose fibers these are */
#ifdef FIBER_ASAN
static thread_local void *scheduler_fake;
static thread_local const void *scheduler_stack;
static thread_local size_t scheduler_stack_bytes;
#endif

static void stack_take(fiber *f)
{
    void *at = mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || mprotect(at, GUARD_BYTES, PROT_NONE) != 0) {
        perror("emulation: no memory for a fiber's stack");
        abort();
    }
    f->stack = static_cast<unsigned char *>(at) + GUARD_BYTES;
}

void fiber_free(fiber *f)
{
    if (!f->stack) return;
#ifdef FIBER_ASAN
    ASAN_UNPOISON_MEMORY_REGION(f->stack, STACK_BYTES);
#endif
    (void)munmap(f->stack - GUARD_BYTES, STACK_BYTES + GUARD_BYTES);
}

/* The first switch returns into `entry` with the stack aligned as after a call. */
void fiber_make(fiber *f, void (*entry)())
{
    if (!f->stack) stack_take(f);
#ifdef FIBER_ASAN
    ASAN_UNPOISON_MEMORY_REGION(f->stack, STACK_BYTES);
#endif
    void **top = reinterpret_cast<void **>(f->stack + STACK_BYTES);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < SAVED_REGISTERS; i++) *--top = nullptr;
    f->sp = top;
    f->fake_stack = nullptr;
}

void fiber_enter(fiber *f)
{
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(&scheduler_fake, f->stack, STACK_BYTES);
#endif
    oc_emulation_switch(&scheduler_sp, f->sp);
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
}

void fiber_leave(fiber *f, bool for_good)
{
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(for_good ? nullptr : &f->fake_stack, scheduler_stack, scheduler_stack_bytes);
#else
    (void)for_good;
#endif
    oc_emulation_switch(&f->sp, scheduler_sp);
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(f->fake_stack, nullptr, nullptr);
#endif
}

/* What a fiber does first: see where it came from. */
void fiber_arrived()
{
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
}
} // namespace emulation
