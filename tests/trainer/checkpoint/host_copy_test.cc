// Copies to the host through pieces, on a device whose streams run behind the host (tests/support/async_device.h).
#include "trainer/checkpoint/host_copy.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace jevons {
namespace {

void CopyInParts(Device device, int64_t piece, const std::vector<int64_t>& parts, int64_t waits) {
  OwnedStream stream(device);
  const int64_t all = std::accumulate(parts.begin(), parts.end(), int64_t{0});
  std::vector<std::byte> source(static_cast<size_t>(all)), on_device(source.size()), to(source.size() + 1, std::byte{77});
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7 + i / 251);
  CopyBytes(stream.get(), source.data(), on_device.data(), all);  // what the stream has still to do when the copy is asked for
  const int64_t before = HostSynchronizations();
  HostCopy copy(stream.get(), to.data(), piece);
  const std::byte* from = on_device.data();
  for (const int64_t bytes : parts) {
    copy.Append(from, bytes);
    from += bytes;
  }
  copy.Finish();
  EXPECT_EQ(HostSynchronizations() - before, waits);
  EXPECT_EQ(to.back(), std::byte{77});
  to.pop_back();
  EXPECT_TRUE(to == source);
}

TEST(HostCopyTest, PutsPartsEndToEndWithAWaitForEachPiece) {
  CopyInParts(Device::kCuda, 100, {}, 0);
  CopyInParts(Device::kCuda, 100, {1}, 1);
  CopyInParts(Device::kCuda, 100, {40, 0, 60}, 1);
  CopyInParts(Device::kCuda, 100, {40, 61}, 2);
  CopyInParts(Device::kCuda, 100, {1000, 3, 3, 3, 250}, 13);
}

TEST(HostCopyTest, IsAPlainCopyOnTheCpu) { CopyInParts(Device::kCpu, 100, {40, 0, 1000, 1}, 0); }

}  // namespace
}  // namespace jevons
