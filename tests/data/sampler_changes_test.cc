// Streams whose samples change their length and mixture on the way (train.stage).
#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "tests/data/sampler_fixture.h"

namespace jevons {
namespace {

using SamplerChangesTest = SamplerTest;

// Over changes of length and of the mixture each dataset's tokens are inputs once per epoch, whatever the order.
TEST_F(SamplerChangesTest, NothingIsTwiceOrSkippedWhereTheLengthChanges) {
  for (const bool shuffle_samples : {false, true}) {
    StreamConfig config = Make({40, 25}, 30, 5);
    config.shuffle_samples = shuffle_samples;
    config.later = {{.first_sample = 37, .seq_len = 20, .weights = {1, 3}},
                    {.first_sample = 58, .seq_len = 7, .weights = {1, 1}}};
    SampleStream stream = OpenStream(config), sought = OpenStream(config);
    std::vector<std::map<int32_t, int>> inputs(2);  // by token: how often
    std::vector<int64_t> tokens = {0, 0};
    const auto whole = [&](size_t d) { return tokens[d] / stream.tokens_per_epoch(static_cast<int64_t>(d)); };
    int64_t index = 0;
    for (; whole(0) < 3 || whole(1) < 3; ++index) {
      ASSERT_EQ(stream.LengthOf(index), index < 37 ? 5 : index < 58 ? 20 : 7);
      ASSERT_EQ(stream.TokensPerDataset(index), tokens) << index;
      const std::vector<int32_t> sample = ReadSample(stream, index);
      const auto d = static_cast<size_t>(stream.PlaceOf(index).dataset);
      for (size_t i = 0; i + 1 < sample.size(); ++i) ++inputs[d][sample[i]];
      tokens[d] += static_cast<int64_t>(sample.size()) - 1;
    }
    for (size_t d = 0; d < 2; ++d) {
      // A sample that straddles two epochs may come before its time.
      const int64_t least = whole(d), most = least + 1;
      for (const int32_t token : Join(documents_[d])) {
        ASSERT_GE(inputs[d][token], least - (shuffle_samples ? 1 : 0)) << token;
        ASSERT_LE(inputs[d][token], most + (shuffle_samples ? 1 : 0)) << token;
      }
    }
    for (int64_t back = index - 1; back >= 0; --back) ASSERT_EQ(ReadSample(sought, back), ReadSample(stream, back));
  }
}

// Inside one epoch, exactly: before the change, after it, and both together.
TEST_F(SamplerChangesTest, AChangeCutsTheEpochsShuffle) {
  StreamConfig config = Make({200}, 30, 8);
  config.shuffle_samples = true;
  config.later = {{.first_sample = 61, .seq_len = 32, .weights = {1}}};
  SampleStream stream = OpenStream(config);
  StreamConfig in_order = config;
  in_order.shuffle_samples = false;
  SampleStream ordered = OpenStream(in_order);
  const int64_t last = 61 + (stream.tokens_per_epoch(0) - 61 * 8) / 32;
  std::multiset<std::vector<int32_t>> shuffled, expected;
  bool moved = false;
  for (int64_t index = 0; index < last; ++index) {
    if (index == 61) {
      ASSERT_EQ(shuffled, expected);
    }
    shuffled.insert(ReadSample(stream, index));
    expected.insert(ReadSample(ordered, index));
    moved = moved || (index > 61 && ReadSample(stream, index) != ReadSample(ordered, index));
  }
  EXPECT_TRUE(moved) << "samples of the new length are shuffled too";
  // The last samples of the epoch may have changed places with the one that straddles its end.
  std::vector<std::vector<int32_t>> missing;
  std::set_difference(expected.begin(), expected.end(), shuffled.begin(), shuffled.end(), std::back_inserter(missing));
  EXPECT_LE(missing.size(), 1u);
}

TEST_F(SamplerChangesTest, AChangeThatWasNotDeclaredIsRefusedWhereSamplesWouldRepeat) {
  StreamConfig plain = Make({200}, 30, 8), staged = plain;
  staged.later = {{.first_sample = 61, .seq_len = 32, .weights = {1}}};
  const auto check = [](const StreamConfig& before, const StreamConfig& now, int64_t used) {
    return OpenStream(now).CheckState(OpenStream(before).StateAt(used));
  };
  for (const int64_t used : {0, 10, 61})
    EXPECT_TRUE(check(plain, staged, used).ok()) << used;  // in order: declared up to the last moment
  EXPECT_TRUE(Fails(check(plain, staged, 62), ExitCode::kUsage, "sequence_length was 8 in the checkpoint and is 32 now"));
  EXPECT_TRUE(Fails(check(staged, plain, 62), ExitCode::kUsage, "sequence_length was 32"));
  EXPECT_TRUE(check(staged, staged, 62).ok());
  StreamConfig later = staged;
  later.later[0].first_sample = 60;
  EXPECT_TRUE(Fails(check(staged, later, 62), ExitCode::kUsage, "begin at token 488"));

  plain.shuffle_samples = staged.shuffle_samples = true;
  EXPECT_TRUE(check(plain, staged, 0).ok());
  for (const int64_t used : {1, 61}) {
    EXPECT_TRUE(Fails(check(plain, staged, used), ExitCode::kUsage, "train.stage: the samples of"));
    EXPECT_TRUE(Fails(check(staged, plain, used), ExitCode::kUsage, "train.stage: the samples of"));
  }
  EXPECT_TRUE(check(staged, staged, 61).ok());
  // In an epoch that no sample is from yet.
  SampleStream stream = OpenStream(plain);
  staged.later[0].first_sample = 2 * stream.tokens_per_epoch(0) / 8;
  EXPECT_TRUE(check(plain, staged, stream.tokens_per_epoch(0) / 8 / 2).ok());
}

}  // namespace
}  // namespace jevons
