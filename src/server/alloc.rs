//! The module's allocator: the server's own, so that the module's memory counts in `used_memory` and `maxmemory`, with
//! the alignment that Rust asks for and a server may not give. A server that keeps the size in front of each block
//! (`MALLOC=libc` without `malloc_usable_size`, as on musl) returns addresses that are aligned to that size field
//! alone.

#![cfg_attr(test, allow(dead_code, reason = "unit tests have no server to ask, and keep their own allocator"))]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::ptr;

use super::api::optional;

/// The least alignment of every server's allocator, in bytes: its size field.
const ALIGNED: usize = size_of::<usize>();

/// The server's allocator. The module may not allocate before the server has handed over its functions, which
/// `load` does first; an allocation before it fails, and ends the process.
pub(crate) struct ServerAllocator;

/// The address in a block at `base` that is handed out for `align` (a power of two above [`ALIGNED`]): the first that
/// is aligned and leaves room for a pointer below. At most `align` bytes above `base`, which is aligned to [`ALIGNED`].
fn place(base: usize, align: usize) -> usize {
    (base + align) & !(align - 1)
}

/// A block of `size` bytes, aligned to [`ALIGNED`]; null before the module is loaded.
fn allocate(size: usize) -> *mut c_void {
    match optional!(RedisModule_Alloc) {
        // SAFETY: every size is valid.
        Some(allocate) => unsafe { allocate(size) },
        None => ptr::null_mut(),
    }
}

/// # Safety
/// `block` came from the server's allocator and is not used any more.
unsafe fn free(block: *mut c_void) {
    if let Some(free) = optional!(RedisModule_Free) {
        // SAFETY: as the caller promises.
        unsafe { free(block) };
    }
}

/// The address, just below `place`, at which the start of its block is stored.
fn note(place: *mut u8) -> *mut *mut c_void {
    place.wrapping_sub(ALIGNED).cast()
}

// SAFETY: blocks come from the server's allocator, which keeps the rules of malloc; they have the requested size and
// alignment: above `ALIGNED`, `place` aligns within a block that is larger by the alignment.
unsafe impl GlobalAlloc for ServerAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= ALIGNED {
            return allocate(layout.size()).cast();
        }
        // It can't overflow: a layout's size, rounded up to its alignment, is at most `isize::MAX`.
        let block = allocate(layout.size() + layout.align());
        if block.is_null() {
            return ptr::null_mut();
        }
        let place = block.cast::<u8>().map_addr(|base| place(base, layout.align()));
        // SAFETY: `place` is at least `ALIGNED` bytes into the block, and aligned to more than that.
        unsafe { note(place).write(block) };
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        let block = if layout.align() <= ALIGNED {
            place.cast()
        } else {
            // SAFETY: `alloc` has noted it for this layout.
            unsafe { note(place).read() }
        };
        // SAFETY: the block that `alloc` got.
        unsafe { free(block) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= ALIGNED
            && let Some(allocate) = optional!(RedisModule_Calloc)
        {
            // SAFETY: every size is valid.
            return unsafe { allocate(1, layout.size()) }.cast();
        }
        // SAFETY: the caller's promise is the same.
        let place = unsafe { self.alloc(layout) };
        if !place.is_null() {
            // SAFETY: `alloc` returned that many bytes.
            unsafe { place.write_bytes(0, layout.size()) };
        }
        place
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= ALIGNED
            && let Some(reallocate) = optional!(RedisModule_Realloc)
        {
            // SAFETY: with this alignment `alloc` hands out the server's own blocks.
            return unsafe { reallocate(place.cast(), size) }.cast();
        }
        // SAFETY: the caller promises that the size is not zero and, rounded up to the alignment, not too large.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the size is not zero.
        let to = unsafe { self.alloc(wanted) };
        if !to.is_null() {
            // SAFETY: both are valid for the smaller of the sizes, and apart.
            unsafe { ptr::copy_nonoverlapping(place, to, layout.size().min(size)) };
            // SAFETY: the caller gives it up, with the layout that it was allocated with.
            unsafe { self.dealloc(place, layout) };
        }
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aligned_address_leaves_room_for_the_pointer_below() {
        for align in [16, 32, 64, 4_096] {
            for base in (0..2 * align).step_by(ALIGNED) {
                let place = place(base, align);
                assert_eq!(place % align, 0);
                assert!((base + ALIGNED..=base + align).contains(&place), "{base} {align}");
            }
        }
    }
}
