#include "data/sampler_state.h"

#include <xxhash.h>

#include "tests/data/test_data.h"

namespace jevons {
namespace {

SamplerState Example(size_t datasets, bool changes = false) {
  SamplerState state{.next_sample = 123'456'789'012,
                     .seed = ~uint64_t{0},
                     .seq_len = 4096,
                     .vocab_size = 129280,
                     .shuffle = false,
                     .shuffle_samples = true,
                     .fim_rate = 0.1,
                     .fim = {1, 2, 3, 4},
                     .datasets = {}};
  for (size_t i = 0; i < datasets; ++i) state.datasets.push_back({i * 0x9E3779B97F4A7C15u, 0.1 * static_cast<double>(i)});
  if (changes)
    for (size_t i = 0; i < datasets; ++i) state.extents.push_back({static_cast<int64_t>(1000 * i), static_cast<int64_t>(i)});
  return state;
}

TEST(SamplerStateTest, RoundTripsWithinItsSize) {
  for (const bool changes : {false, true}) {
    for (const size_t datasets : {size_t{0}, size_t{1}, SamplerState::kMaxDatasets}) {
      const SamplerState state = Example(datasets, changes);
      const std::string bytes = state.Serialize();
      EXPECT_LE(bytes.size(), SamplerState::kMaxBytes / (changes ? 1 : 2));
      const auto parsed = SamplerState::Parse(bytes);
      ASSERT_TRUE(parsed.ok()) << parsed.status();
      EXPECT_EQ(parsed->Serialize(), bytes);
      EXPECT_EQ(parsed->next_sample, state.next_sample);
      EXPECT_EQ(parsed->shuffle, false);
      EXPECT_EQ(parsed->shuffle_samples, true);
      EXPECT_EQ(parsed->extents, state.extents);
      EXPECT_TRUE(CheckSameStream(*parsed, state, std::vector<std::string>(datasets, "x")).ok());
    }
  }
}

TEST(SamplerStateTest, SamplesThatBeginElsewhereAreRefused) {
  SamplerState other = Example(3, true);
  other.extents[2].begin += 1;
  EXPECT_TRUE(Fails(CheckSameStream(Example(3, true), other, {"x", "y", "z"}), ExitCode::kUsage,
                    "begin at token 2000 of z in the checkpoint and at token 2001"));
}

// The bytes of a state from before samples could be shuffled: seed 1, sequences of 4, vocabulary 9, one dataset.
TEST(SamplerStateTest, AnOldStateMeansTheOldOrder) {
  std::string bytes = "JVSAMPL1";
  const auto append = [&](auto value) { bytes.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
  for (const int64_t value : {3, 1, 4, 9}) append(value);  // next_sample, seed, seq_len, vocab_size
  append(0.0);                                             // fim_rate
  for (int i = 0; i < 4; ++i) append(int32_t{0});          // its tokens
  append(uint64_t{1});                                     // documents are shuffled
  append(uint64_t{1});                                     // datasets
  append(uint64_t{77});
  append(1.0);
  append(XXH3_64bits(bytes.data(), bytes.size()));
  const auto old = SamplerState::Parse(bytes);
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_EQ(old->next_sample, 3);
  EXPECT_TRUE(old->shuffle);
  EXPECT_FALSE(old->shuffle_samples);
  EXPECT_EQ(old->Serialize(), bytes) << "and is written so still";
}

TEST(SamplerStateTest, DamageIsRefused) {
  const std::string bytes = Example(3, true).Serialize();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_TRUE(Fails(SamplerState::Parse(bytes.substr(0, size)).status(), ExitCode::kIntegrity, "sampler state"));
  }
  EXPECT_FALSE(SamplerState::Parse(bytes + '\0').ok());
  EXPECT_FALSE(SamplerState::Parse(bytes + std::string(SamplerState::kMaxBytes, 'x')).ok());
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_TRUE(Fails(SamplerState::Parse(flipped).status(), ExitCode::kIntegrity, "sampler state")) << bit;
  }
  SamplerState negative = Example(1);
  negative.next_sample = -1;
  EXPECT_TRUE(Fails(SamplerState::Parse(negative.Serialize()).status(), ExitCode::kIntegrity, "next_sample is -1"));
}

}  // namespace
}  // namespace jevons
