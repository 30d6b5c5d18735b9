#include "kernels/tensor/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
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

TEST(Heap, WhatOneArenaGivesBackServesAnother) {
  Heap heap("heap", 1 << 20, Device::kCpu);
  auto a = std::make_unique<Arena>("a", heap);
  Arena b("b", heap), c("c", heap);
  const Tensor large = a->Allocate("large", DType::kU8, {640});
  b.Allocate("kept", DType::kU8, {64});
  const Tensor small = a->Allocate("small", DType::kU8, {128});
  b.Allocate("kept too", DType::kU8, {64});
  EXPECT_EQ(heap.peak_bytes(), 896);
  a = nullptr;                                                             // holes of 640 and 128 bytes
  EXPECT_EQ(c.Allocate("fits best", DType::kU8, {100}).data, small.data);  // not the larger one, which comes first
  EXPECT_EQ(c.Allocate("fits", DType::kU8, {600}).data, large.data);
  EXPECT_EQ(heap.peak_bytes(), 896);
  EXPECT_EQ(c.Allocate("no room", DType::kU8, {65}).data, small.as<uint8_t>() + 128 + 64);
  EXPECT_EQ(heap.peak_bytes(), 1024);
}

TEST(Heap, NeighboursThatAreFreeBecomeOne) {
  Heap heap("heap", 1 << 20, Device::kCpu);
  auto a = std::make_unique<Arena>("a", heap), b = std::make_unique<Arena>("b", heap), c = std::make_unique<Arena>("c", heap);
  Arena last("last", heap);
  const Tensor first = a->Allocate("first", DType::kU8, {64});
  b->Allocate("second", DType::kU8, {64});
  c->Allocate("third", DType::kU8, {64});
  last.Allocate("last", DType::kU8, {64});
  a = nullptr;
  c = nullptr;
  b = nullptr;  // joins both sides
  Arena d("d", heap);
  EXPECT_EQ(d.Allocate("all three", DType::kU8, {192}).data, first.data);
  EXPECT_EQ(heap.peak_bytes(), 256);
}

// What has been before does not show: the second time a step takes the places it took the first time.
TEST(Heap, IsAsGoodAsNewWhenItHasBecomeEmpty) {
  Heap heap("heap", 1 << 20, Device::kCpu);
  const auto places = [&] {
    std::vector<void*> data;
    Arena a("a", heap), b("b", heap);
    data.push_back(a.Allocate("one", DType::kU8, {640}).data);
    data.push_back(b.Allocate("two", DType::kU8, {64}).data);
    a.Release({0, 0});
    data.push_back(b.Allocate("three", DType::kU8, {256}).data);  // in the hole of 640, not in the 512 that `four` once took
    data.push_back(b.Allocate("four", DType::kU8, {512}).data);
    return data;
  };
  const std::vector<void*> once = places();
  Arena("more", heap).Allocate("more", DType::kU8, {1024});
  EXPECT_EQ(places(), once);
}

TEST(Heap, TellsWhoseSlicesMadeThePeak) {
  Heap heap("heap", 1 << 20, Device::kCpu);
  Arena a("a", heap), b("b", heap);
  a.Allocate("x", DType::kU8, {64});
  b.Allocate("y", DType::kU8, {128});
  {
    const ArenaScope scope(a);
    a.Allocate("x", DType::kU8, {64});
    b.Allocate("z", DType::kU8, {64});
  }
  using Bytes = std::map<std::pair<std::string, std::string>, int64_t>;
  const auto bytes = [&] {
    Bytes sums;
    for (const Heap::Use& use : heap.PeakUse()) sums[{use.owner, use.name}] = use.bytes;
    return sums;
  };
  EXPECT_EQ(bytes(), (Bytes{{{"a", "x"}, 128}, {{"b", "y"}, 128}, {{"b", "z"}, 64}}));  // the second x is gone since
  b.Allocate("beyond", DType::kU8, {640});
  EXPECT_EQ(bytes(), (Bytes{{{"a", "x"}, 64}, {{"b", "y"}, 128}, {{"b", "z"}, 64}, {{"b", "beyond"}, 640}, {{"", ""}, 64}}));
}

// Arenas that come and go: no byte has two owners, and where nothing is held the same places are handed out.
TEST(Heap, SlicesNeverOverlapAndPlacesDependOnTheCallsAlone) {
  Heap heap("heap", int64_t{1} << 30, Device::kCpu), counted("counted", 0, Device::kNone);
  struct Pair {
    std::unique_ptr<Arena> held, counted;
    std::vector<Tensor> slices;
  };
  std::vector<Pair> arenas(12);
  std::mt19937 random(3);
  const char* base = heap.region().base();
  const char* nowhere = counted.region().base();
  for (int i = 0; i < 20000; ++i) {
    Pair& pair = arenas[random() % arenas.size()];
    if (pair.held == nullptr) {
      pair.held = std::make_unique<Arena>("x", heap);
      pair.counted = std::make_unique<Arena>("x", counted);
    }
    if (random() % 8 == 0) {
      pair.held = nullptr;
      pair.counted = nullptr;
      pair.slices.clear();
      continue;
    }
    const Shape shape = {static_cast<int64_t>(random() % 5000)};
    const Tensor slice = pair.held->Allocate("s", DType::kU8, shape), twin = pair.counted->Allocate("s", DType::kU8, shape);
    ASSERT_NE(slice.data, nullptr);
    ASSERT_EQ(static_cast<const char*>(slice.data) - base, static_cast<const char*>(twin.data) - nowhere);
    if (slice.size() > 0) pair.slices.push_back(slice);
    std::map<const char*, int64_t> all;
    for (const Pair& other : arenas)
      for (const Tensor& s : other.slices) ASSERT_TRUE(all.emplace(static_cast<const char*>(s.data), s.size()).second);
    for (auto at = all.begin(); at != all.end() && std::next(at) != all.end(); ++at)
      ASSERT_LE(at->first + at->second, std::next(at)->first);
  }
  EXPECT_EQ(heap.peak_bytes(), counted.peak_bytes());
}

}  // namespace
}  // namespace jevons
