// Arena: where every tensor of a step lives. It reserves address space once and hands out slices last-in-first-out, so a
// step allocates nothing from the system after its pages have been touched, and its peak is a number to plan with.
//
//   Arena arena("activations", int64_t{64} << 30);
//   {
//     ArenaScope scope(arena);                              // gives everything back at the brace
//     Tensor y = arena.Allocate("mla.q", DType::kF32, {tokens, heads * dim});
//   }
//   arena.peak_bytes();  arena.PeakSlices();                // high-water mark, and which slices made it
//
// Several arenas may share the memory of a Heap. Slices are 64-byte aligned. On Device::kCuda they are device memory, which grows under the same addresses when a slice first
// needs it and stays until the arena ends; a released slice may be handed out while kernels that use it are still to run, so an
// arena belongs to one stream. On Device::kNone there is no memory behind the addresses and no end of them: the arena counts, and whoever
// reads a slice crashes. JEVONS_POISON=1 in the environment fills each slice with NaN bytes (0xFF) when it is new and
// when it is released, so that a test fails on any read of memory that nobody wrote, or that its owner gave back.
#ifndef JEVONS_KERNELS_TENSOR_ARENA_H_
#define JEVONS_KERNELS_TENSOR_ARENA_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tensor/heap.h"
#include "kernels/tensor/tensor.h"

namespace jevons {

class Arena {
 public:
  // Reserves `capacity` bytes of address space; pages become resident when first written. On kNone capacity says nothing.
  Arena(std::string name, int64_t capacity, Device device = Device::kCpu);
  // Takes each slice of a heap that outlives it. `name`: a literal.
  Arena(const char* name, Heap& heap);
  ~Arena() {
    if (heap_ != nullptr) Release({0, 0});
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  Device device() const { return heap_ == nullptr ? own_->device() : heap_->device(); }

  // A slice named after its content. `name` must outlive the arena (a literal). Aborts when the reservation is used up.
  Tensor Allocate(const char* name, DType dtype, const Shape& shape);

  struct Mark {
    int64_t used;
    size_t slices;
  };
  Mark Save() const { return {used_, slices_.size()}; }
  void Release(Mark mark);

  int64_t used_bytes() const { return used_; }
  int64_t peak_bytes() const { return peak_; }
  void ResetPeak();
  // The bytes of the slices alive at the peak, by name, largest first.
  std::vector<std::pair<std::string, int64_t>> PeakSlices() const;

  // The bytes that a slice occupies: what a plan adds up.
  static int64_t SliceBytes(DType dtype, const Shape& shape);

 private:
  struct Slice {
    const char* name;
    char* data;
    int64_t bytes;
  };

  const char* label_ = nullptr;  // on a heap
  Heap* heap_ = nullptr;
  std::unique_ptr<Region> own_;  // elsewhere
  int64_t used_ = 0, peak_ = 0;
  std::vector<Slice> slices_, peak_slices_;
  bool peak_is_current_ = true;  // peak_slices_ is copied lazily, when the first slice alive at the peak is released
};

class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.Save()) {}
  ~ArenaScope() { arena_.Release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace jevons

#endif  // JEVONS_KERNELS_TENSOR_ARENA_H_
