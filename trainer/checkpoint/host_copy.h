// Copies from a device to one range of host memory, end to end: through two page-locked pieces in turn, since a copy to other memory
// is slow and holds the host up. While one piece is filled, the host takes the other to its place. On the CPU a plain copy.
#ifndef JEVONS_TRAINER_CHECKPOINT_HOST_COPY_H_
#define JEVONS_TRAINER_CHECKPOINT_HOST_COPY_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/tensor/device.h"

namespace jevons {

// REQUIRES: Finish comes last, and `to` has room for all that is appended.
class HostCopy {
 public:
  HostCopy(const Stream& stream, std::byte* to, int64_t piece_bytes = int64_t{32} << 20);
  // bytes at `data`, as the stream has left them.
  void Append(const void* data, int64_t bytes);
  // Waits until all is there.
  void Finish();

 private:
  struct Piece {
    Piece(Device device, int64_t bytes) : memory(device, bytes), filled(device) {}
    Staging memory;
    Event filled;
    int64_t used = 0;
  };
  void Turn();
  void Empty(Piece& piece);

  Stream stream_;
  std::byte* to_;
  int64_t piece_bytes_;
  std::unique_ptr<Piece> filling_, other_;  // null on the CPU
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_HOST_COPY_H_
