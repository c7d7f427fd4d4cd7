/*
 * Where a VMM enters the test guest, and where interrupts do. Two ways in: PVH (Xen's note names it; 32-bit protected
 * mode, no paging, ebx points to struct hvm_start_info) and, as ELF's own entry, Linux's 64-bit boot protocol (rsi points
 * to struct boot_params). Both end in guest_main(pvh, zero_page) on our stack, with the first 4 GiB mapped as they are.
 */
#define LAPIC_EOI 0xfee000b0
#define CODE      8
#define DATA      16

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .quad pvh_start

    .text
    .code32
pvh_start:
    cli
    cld
    movl $pml4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax /* PAE */
    movl %eax, %cr4
    movl $0xc0000080, %ecx /* EFER.LME */
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax /* PG */
    movl %eax, %cr0
    lgdt gdt_pointer
    movl %ebx, %edi
    xorl %esi, %esi
    ljmp $CODE, $begin

    .code64
    .globl linux_start
linux_start:
    cli
    cld
    movq $pml4, %rax
    movq %rax, %cr3
    lgdt gdt_pointer
    xorl %edi, %edi
    movq $stack_top, %rsp
    pushq $CODE
    pushq $begin
    lretq

begin:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movq $stack_top, %rsp
    call guest_main

/* What a device or the timer has to say is in memory: the main loop looks there whenever something has woken it. */
    .globl on_device, on_timer, on_spurious
on_timer:
    incq ticks(%rip)
on_device:
    pushq %rax
    movl $LAPIC_EOI, %eax
    movl $0, (%rax)
    popq %rax
on_spurious:
    iretq

/* One entry of 16 bytes for each of the processor's exceptions. */
    .globl exceptions
    .balign 16
exceptions:
    .set vector, 0
    .rept 32
    .balign 16
    pushq $vector
    jmp on_exception
    .set vector, vector + 1
    .endr
on_exception:
    movq %rsp, %rdi
    call guest_exception

    .data
    .balign 4096
pml4:
    .quad pdpt + 3
    .fill 511, 8, 0
pdpt:
    .quad page_directory + 3, page_directory + 0x1003, page_directory + 0x2003, page_directory + 0x3003
    .fill 508, 8, 0
page_directory:
    .set page, 0
    .rept 2048
    .quad page << 21 | 0x83 /* 2 MiB, writable */
    .set page, page + 1
    .endr
gdt:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    .word 23
    .quad gdt

    .bss
    .balign 16
    .fill 65536, 1, 0
stack_top:

    .section .note.GNU-stack, "", @progbits
