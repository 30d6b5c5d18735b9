#include "kernels/tensor/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace jevons {
namespace {

TEST(Arena, PoisonFillsSlicesThatAreNewOrReleased) {
  setenv("JEVONS_POISON", "1", 1);
  Arena arena("test", 1 << 20);
  unsetenv("JEVONS_POISON");
  const std::vector<uint8_t> poison(400, 0xFF), written(400, 7);
  const auto bytes_of = [](const Tensor& t) { return std::vector<uint8_t>(t.as<uint8_t>(), t.as<uint8_t>() + t.size()); };

  const Tensor kept = arena.Allocate("kept", DType::kU8, {400});
  EXPECT_EQ(bytes_of(kept), poison);
  std::fill_n(kept.as<uint8_t>(), 400, uint8_t{7});
  Tensor released;
  {
    ArenaScope scope(arena);
    released = arena.Allocate("released", DType::kU8, {400});
    std::fill_n(released.as<uint8_t>(), 400, uint8_t{7});
  }
  EXPECT_EQ(bytes_of(released), poison);
  EXPECT_EQ(bytes_of(kept), written);
}

}  // namespace
}  // namespace jevons
