#include "trainer/checkpoint/host_copy.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace jevons {

HostCopy::HostCopy(const Stream& stream, std::byte* to, int64_t piece_bytes)
    : stream_(stream), to_(to), piece_bytes_(piece_bytes) {
  if (stream.device == Device::kCpu) return;
  filling_ = std::make_unique<Piece>(stream.device, piece_bytes);
  other_ = std::make_unique<Piece>(stream.device, piece_bytes);
}

void HostCopy::Append(const void* data, int64_t bytes) {
  if (filling_ == nullptr) {
    CopyBytes(stream_, data, to_, bytes);
    to_ += bytes;
    return;
  }
  const auto* from = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    if (filling_->used == piece_bytes_) Turn();
    const int64_t count = std::min(bytes, piece_bytes_ - filling_->used);
    CopyBytes(stream_, from, static_cast<std::byte*>(filling_->memory.data()) + filling_->used, count);
    filling_->used += count;
    from += count;
    bytes -= count;
  }
}

void HostCopy::Finish() {
  if (filling_ == nullptr) return;
  Turn();
  Turn();
}

// The other piece was filled before, so it is what comes next at `to`.
void HostCopy::Turn() {
  filling_->filled.Record(stream_);
  Empty(*other_);
  std::swap(filling_, other_);
}

void HostCopy::Empty(Piece& piece) {
  if (piece.used == 0) return;
  piece.filled.Synchronize();
  std::memcpy(to_, piece.memory.data(), static_cast<size_t>(piece.used));
  to_ += piece.used;
  piece.used = 0;
}

}  // namespace jevons
