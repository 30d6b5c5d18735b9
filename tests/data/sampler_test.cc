// The training stream: nothing twice, nothing skipped, the same from everywhere.
#include "data/sampler.h"

#include <xxhash.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <set>

#include "gmock/gmock.h"
#include "kernels/base/partition.h"
#include "tests/data/sampler_fixture.h"
#include "tests/support/trials.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(SamplerTest, EveryTokenIsAnInputOncePerEpoch) {
  std::mt19937_64 random(31);
  for (int trial = 0; trial < 30; ++trial) {
    StreamConfig config = Make({1 + static_cast<int64_t>(random() % 30)}, 1 + static_cast<int64_t>(random() % 40),
                               1 + static_cast<int64_t>(random() % 50));
    config.seed = random();
    SampleStream stream = OpenStream(config);
    const int64_t epoch_tokens = stream.tokens_per_epoch(0);
    std::vector<int32_t> inputs;
    int32_t last_label = -1;
    for (int64_t j = 0; static_cast<int64_t>(inputs.size()) < 4 * epoch_tokens; ++j) {
      const std::vector<int32_t> sample = ReadSample(stream, j);
      if (j > 0) {
        ASSERT_EQ(sample.front(), last_label) << "the label of one is the input of the next";
      }
      last_label = sample.back();
      inputs.insert(inputs.end(), sample.begin(), sample.end() - 1);
    }
    for (int64_t epoch = 0; epoch < 4; ++epoch) {
      std::vector<int32_t> tokens(inputs.begin() + epoch * epoch_tokens, inputs.begin() + (epoch + 1) * epoch_tokens);
      std::sort(tokens.begin(), tokens.end());
      ASSERT_EQ(tokens, Join(documents_[0])) << "trial " << trial << " epoch " << epoch;
    }
  }
}

TEST_F(SamplerTest, RandomAccessEqualsSequential) {
  for (const bool shuffle_samples : {false, true}) {
    StreamConfig config = Make({20, 1, 35}, 30, 17);
    config.shuffle_samples = shuffle_samples;
    SetFim(config, 0.3);
    SampleStream sequential = OpenStream(config), random_access = OpenStream(config);
    std::vector<std::vector<int32_t>> samples;
    for (int64_t index = 0; index < 500; ++index) samples.push_back(ReadSample(sequential, index));
    std::mt19937_64 random(32);
    for (int trial = 0; trial < 2000; ++trial) {
      const auto index = static_cast<int64_t>(random() % samples.size());
      ASSERT_EQ(ReadSample(random_access, index), samples[static_cast<size_t>(index)]) << index;
    }
  }
}

// What a sample is said to be made of is what Read gives, document by document.
TEST_F(SamplerTest, PartsAreWhatASampleIsMadeOf) {
  for (const double fim : {0.0, 0.5}) {
    StreamConfig config = Make({20, 30}, 25, 40);
    config.shuffle_samples = true;
    SetFim(config, fim);
    config.vocab_size = kEnd + 1;
    SampleStream stream = OpenStream(config);
    int64_t rearranged = 0;
    for (int64_t j = 0; j < 60; ++j) {
      std::vector<int32_t> expected = ReadSample(stream, j), tokens;
      for (const DocumentPart& part : stream.PartsOf(j)) {
        const std::vector<int32_t>& document =
            documents_[static_cast<size_t>(stream.PlaceOf(j).dataset)][static_cast<size_t>(part.document)];
        ASSERT_GT(part.tokens, 0);
        for (int64_t i = part.offset; i < part.offset + part.tokens; ++i)
          tokens.push_back(part.fim ? expected[tokens.size()] : document[static_cast<size_t>(i)]);
        rearranged += part.fim ? 1 : 0;
      }
      EXPECT_EQ(tokens, expected) << j;
    }
    EXPECT_EQ(rearranged > 0, fim > 0);
  }
}

TEST_F(SamplerTest, EveryNumberOfRanksReadsOneStream) {
  StreamConfig config = Make({25, 40}, 30, 8);
  config.shuffle_samples = true;
  SetFim(config, 0.1);
  constexpr int64_t kBatch = 48, kSteps = 3;
  const auto stream_hash = [&](int64_t ranks) {
    std::vector<SampleStream> streams;
    for (int64_t rank = 0; rank < ranks; ++rank) streams.push_back(OpenStream(config));
    uint64_t hash = 0;
    for (int64_t step = 0; step < kSteps; ++step) {
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const Range mine = BlockOf(kBatch, ranks, rank);
        for (int64_t i = mine.begin; i < mine.end; ++i) {
          const std::vector<int32_t> sample = ReadSample(streams[static_cast<size_t>(rank)], step * kBatch + i);
          hash = XXH3_64bits_withSeed(sample.data(), sample.size() * sizeof(int32_t), hash);
        }
      }
    }
    return hash;
  };
  const uint64_t expected = stream_hash(1);
  for (int64_t ranks = 2; ranks <= 64; ++ranks) EXPECT_EQ(stream_hash(ranks), expected) << ranks << " ranks";
}

// What a seed means must never change, or a checkpoint would resume on another stream.
TEST_F(SamplerTest, TheStreamOfASeedIsForEver) {
  StreamConfig config = Make({20, 30}, 20, 16);
  SetFim(config, 0.25);
  config.seed = 1;
  const auto stream_hash = [&](bool shuffle_samples) {
    config.shuffle_samples = shuffle_samples;
    SampleStream stream = OpenStream(config);
    uint64_t hash = 0;
    for (int64_t index = 0; index < 300; ++index) {
      const std::vector<int32_t> sample = ReadSample(stream, index);
      hash = XXH3_64bits_withSeed(sample.data(), sample.size() * sizeof(int32_t), hash);
    }
    return hash;
  };
  EXPECT_EQ(stream_hash(false), uint64_t{12206329572788768460u});
  EXPECT_EQ(stream_hash(true), uint64_t{16370184552279265594u});
  // Documents enough for several buckets, whose size a seed's meaning depends on.
  config = Make({3000}, 4, 16);
  EXPECT_EQ(stream_hash(true), uint64_t{6057683677321562693u});
}

// Every epoch has the samples that begin in it, each once, in an order of its own.
TEST_F(SamplerTest, ShuffledSamplesAreThoseInOrderEpochByEpoch) {
  std::mt19937_64 random(34);
  int64_t small_epochs = 0, same_place = 0, moved_samples = 0;
  for (int trial = 0; trial < 40; ++trial) {
    StreamConfig config = Make({1 + static_cast<int64_t>(random() % 30)}, 1 + static_cast<int64_t>(random() % 40),
                               1 + static_cast<int64_t>(random() % 50));
    config.seed = random();
    if (trial % 2 == 1) SetFim(config, 0.3);
    SampleStream in_order = OpenStream(config);
    config.shuffle_samples = true;
    SampleStream shuffled = OpenStream(config);
    const int64_t tokens = in_order.tokens_per_epoch(0), seq_len = config.seq_len;
    // Where epochs begin, from the tokens alone where none is added: epoch e holds samples ceil(e tokens / seq_len) on.
    int64_t first = 0;
    for (int64_t epoch = 0; config.fim_rate == 0 && epoch < 4; ++epoch) {
      const int64_t beyond = ((epoch + 1) * tokens + seq_len - 1) / seq_len;
      std::vector<std::vector<int32_t>> expected, found;
      for (int64_t index = first; index < beyond; ++index) {
        expected.push_back(ReadSample(in_order, index));
        found.push_back(ReadSample(shuffled, index));
        same_place += beyond - first >= 10 && expected.back() == found.back();
        moved_samples += beyond - first >= 10;
      }
      small_epochs += beyond - first < 2;
      std::sort(expected.begin(), expected.end());
      std::sort(found.begin(), found.end());
      ASSERT_EQ(found, expected) << "trial " << trial << " epoch " << epoch;
      first = beyond;
    }
    // With tokens added, whatever the epochs: the samples in order, each once, but for those of the last epoch.
    std::vector<std::vector<int32_t>> expected, found;
    const int64_t count = 6 * tokens / seq_len + 2;
    for (int64_t index = 0; index < count; ++index) {
      expected.push_back(ReadSample(in_order, index));
      found.push_back(ReadSample(shuffled, index));
    }
    std::sort(expected.begin(), expected.end());
    std::sort(found.begin(), found.end());
    std::vector<std::vector<int32_t>> missing;
    std::set_difference(expected.begin(), expected.end(), found.begin(), found.end(), std::back_inserter(missing));
    ASSERT_LE(static_cast<int64_t>(missing.size()), 5 * tokens / 2 / seq_len + 1) << "trial " << trial;
  }
  EXPECT_GT(small_epochs, 0) << "no epoch was shorter than a sample or two";
  EXPECT_GT(moved_samples, 300);
  EXPECT_LT(same_place, moved_samples / 10);
}

// What it is for: documents far longer than a batch, and yet each batch has many of them.
TEST_F(SamplerTest, ShuffledBatchesMixDocuments) {
  Documents documents(40, std::vector<int32_t>(2000));
  for (size_t d = 0; d < documents.size(); ++d) std::fill(documents[d].begin(), documents[d].end(), d);
  WriteDataset(folder_ / "books", documents);
  StreamConfig config{.datasets = {{folder_ / "books", 1}}, .seq_len = 20, .seed = 1, .vocab_size = 100};
  const auto documents_per_batch = [&] {
    SampleStream stream = OpenStream(config);
    int64_t sum = 0;
    for (int64_t batch = 0; batch < 500; ++batch) {
      std::set<int32_t> in_batch;
      for (int64_t i = 0; i < 8; ++i) in_batch.insert(ReadSample(stream, 8 * batch + i).front());
      sum += static_cast<int64_t>(in_batch.size());
    }
    return static_cast<double>(sum) / 500;
  };
  EXPECT_GT(documents_per_batch(), 7);  // of 8 samples from 40 documents: 7.33 expected
  config.shuffle_samples = false;
  EXPECT_LT(documents_per_batch(), 1.2);
}

TEST_F(SamplerTest, ABatchOfOneDocumentIsSaid) {
  const auto warning = [&](const std::vector<int64_t>& lengths, bool shuffle_samples, int64_t sequences,
                           std::vector<double> weights = {1}) {
    StreamConfig config{.seq_len = 10, .seed = 1, .vocab_size = 100, .shuffle_samples = shuffle_samples};
    Documents documents;
    for (const int64_t length : lengths) documents.emplace_back(static_cast<size_t>(length), 7);
    WriteDataset(folder_ / "set", documents);
    for (const double weight : weights) config.datasets.push_back({folder_ / "set", weight});
    return OpenStream(config).OneDocumentWarning(sequences);
  };
  EXPECT_EQ(warning({30, 30, 30}, true, 4), "");
  EXPECT_EQ(warning({30, 79, 30}, false, 4), "");
  EXPECT_THAT(warning({30, 80, 30}, false, 4),
              AllOf(HasSubstr("set.bin one after another, and its longest document has 80 tokens"),
                    HasSubstr("data.shuffle_samples=true")));
  EXPECT_EQ(warning({30, 80, 30}, true, 4), "");
  EXPECT_EQ(warning({30, 80, 30}, false, 1), "") << "a sample alone is a batch of one document anyhow";
  EXPECT_EQ(warning({1000}, true, 4), "") << "far apart in one document is mixed";
  EXPECT_THAT(warning({1000}, false, 4), HasSubstr("data.shuffle_samples=true"));
  EXPECT_THAT(warning({60}, false, 4), HasSubstr("data.shuffle_samples=true"));
  for (const bool shuffle_samples : {false, true})
    EXPECT_THAT(warning({40}, shuffle_samples, 4), HasSubstr("one document of 40 tokens"));
  EXPECT_EQ(warning({0, 41, 0}, true, 4), "");
  // Of a mixture, what each dataset gives: two samples of four.
  EXPECT_THAT(warning({30, 40, 30}, false, 4, {1, 1}), HasSubstr("takes 2 samples"));
  EXPECT_EQ(warning({30, 39, 30}, false, 4, {1, 1}), "");
}

TEST_F(SamplerTest, SeedsAndDatasetsHaveOrdersOfTheirOwn) {
  StreamConfig config = Make({40}, 10, 64);
  config.datasets.push_back(config.datasets[0]);
  SampleStream stream = OpenStream(config);
  EXPECT_NE(ReadSample(stream, 0), ReadSample(stream, 1)) << "the same files twice: two orders";
  config.seed = 43;
  SampleStream other = OpenStream(config);
  EXPECT_NE(ReadSample(stream, 0), ReadSample(other, 0));
}

TEST_F(SamplerTest, AMixtureTakesEachDatasetInItsOwnOrder) {
  StreamConfig config = Make({30, 30}, 20, 8);
  config.datasets[0].weight = 6;  // the other has 2
  SampleStream mixed = OpenStream(config);
  std::vector<int64_t> next = {0, 0};
  std::vector<int32_t> last(2, -1);
  for (int64_t index = 0; index < 1000; ++index) {
    const std::vector<int32_t> sample = ReadSample(mixed, index);
    const auto dataset = static_cast<size_t>(sample[0] >= 100'000);
    ASSERT_EQ(mixed.PlaceOf(index), (Mixture::Place{static_cast<int64_t>(dataset), next[dataset]}));
    if (next[dataset]++ > 0) {
      ASSERT_EQ(sample.front(), last[dataset]);
    }
    last[dataset] = sample.back();
  }
  EXPECT_EQ(mixed.TokensPerDataset(1000), (std::vector<int64_t>{8 * next[0], 8 * next[1]}));
  EXPECT_NEAR(static_cast<double>(next[0]), 750, 2);
}

TEST_F(SamplerTest, DocumentStartsAreWhereDocumentsBegin) {
  for (const double fim_rate : {0.0, 0.5}) {
    StreamConfig config = Make({30}, 12, 25);
    config.shuffle_samples = true;
    if (fim_rate > 0) SetFim(config, fim_rate);
    std::map<int32_t, size_t> document_of;
    for (size_t d = 0; d < documents_[0].size(); ++d) {
      for (const int32_t token : documents_[0][d]) document_of[token] = d;
    }
    SampleStream stream = OpenStream(config);
    std::vector<int32_t> tokens(26), starts(25);
    int64_t documents_seen = 0;
    for (int64_t index = 0; index < 200; ++index) {
      ASSERT_TRUE(stream.Read(index, tokens, starts).ok());
      for (int32_t i = 0; i < 25; ++i) {
        const auto at = static_cast<size_t>(i);
        ASSERT_LE(starts[at], i);
        ASSERT_EQ(starts[static_cast<size_t>(starts[at])], starts[at]);
        if (i == 0 || tokens[at] > kEos || tokens[at - 1] > kEos) continue;  // fim's own tokens have no number
        const size_t document = document_of[tokens[at]];
        const bool same = document == document_of[tokens[at - 1]] && tokens[at] != documents_[0][document].front();
        ASSERT_EQ(starts[at], same ? starts[at - 1] : i);
        documents_seen += !same;
      }
    }
    EXPECT_GT(documents_seen, 300);
  }
}

TEST_F(SamplerTest, ADatasetShorterThanASampleRepeats) {
  WriteDataset(folder_ / "short", {{}, {7, 8, 9}, {}}, 100);
  SampleStream stream =
      OpenStream({.datasets = {{folder_ / "short", 1}}, .seq_len = 7, .seed = 1, .vocab_size = 100, .shuffle_samples = false});
  EXPECT_THAT(ReadSample(stream, 0), ElementsAre(7, 8, 9, 7, 8, 9, 7, 8));
  EXPECT_THAT(ReadSample(stream, 1), ElementsAre(8, 9, 7, 8, 9, 7, 8, 9));
  std::vector<int32_t> tokens(8), starts(7);
  ASSERT_TRUE(stream.Read(1, tokens, starts).ok());
  EXPECT_THAT(starts, ElementsAre(0, 0, 2, 2, 2, 5, 5));
  EXPECT_THAT(ReadSample(stream, 3 * (int64_t{1} << 50)), ElementsAre(7, 8, 9, 7, 8, 9, 7, 8));
}

TEST_F(SamplerTest, FimStreamsHoldEveryDocumentWholeOrRearranged) {
  StreamConfig config = Make({60}, 20, 33);
  SetFim(config, 0.4);
  SampleStream stream = OpenStream(config);
  std::vector<int32_t> inputs;
  for (int64_t index = 0; index < 300; ++index) {
    const std::vector<int32_t> sample = ReadSample(stream, index);
    inputs.insert(inputs.end(), sample.begin(), sample.end() - 1);
  }
  int64_t begins = 0;
  std::map<int32_t, int64_t> uses;
  for (const int32_t token : inputs) {
    begins += token == kBegin;
    if (token < kEos) ++uses[token];
  }
  EXPECT_EQ(std::count(inputs.begin(), inputs.end(), kEnd), begins);
  const auto [least, most] = std::minmax_element(uses.begin(), uses.end(), [](auto& a, auto& b) { return a.second < b.second; });
  EXPECT_EQ(uses.size(), Join(documents_[0]).size());
  EXPECT_LE(most->second - least->second, 1) << "the epoch under way is the only difference";
  EXPECT_GT(begins, 60 * (least->second - 1) * 3 / 10);
}

TEST_F(SamplerTest, ResumesAfterAnyStopWithNothingTwiceOrSkipped) {
  StreamConfig config = Make({25, 9}, 30, 8);
  config.shuffle_samples = true;
  SetFim(config, 0.1);
  SampleStream whole = OpenStream(config);
  std::mt19937_64 random(33);
  std::string state = whole.StateAt(0).Serialize();
  for (int64_t run = 0, expected = 0; run < 1000; ++run) {
    SampleStream stream = OpenStream(config);
    const absl::StatusOr<SamplerState> resumed = SamplerState::Parse(state);
    ASSERT_TRUE(resumed.ok() && stream.CheckState(*resumed).ok());
    ASSERT_EQ(resumed->next_sample, expected);
    const auto steps = static_cast<int64_t>(random() % 4);
    for (int64_t i = 0; i < steps; ++i, ++expected) {
      ASSERT_EQ(ReadSample(stream, resumed->next_sample + i), ReadSample(whole, expected));
    }
    state = stream.StateAt(expected).Serialize();
    ASSERT_LE(state.size(), SamplerState::kMaxBytes);
  }
  ReportTrials("data", 1000, "33", "stops at random samples: none twice, none left out");
}

TEST_F(SamplerTest, AChangedDatasetIsNamed) {
  const StreamConfig config = Make({5, 6}, 30, 8);
  const SamplerState saved = OpenStream(config).StateAt(77);
  EXPECT_TRUE(OpenStream(config).CheckState(saved).ok());
  Documents changed = documents_[1];
  changed.back().push_back(3);
  WriteDataset(folder_ / "set1", changed);
  EXPECT_TRUE(Fails(OpenStream(config).CheckState(saved), ExitCode::kIntegrity, "set1) is not the data"));
  WriteDataset(folder_ / "set1", documents_[1]);
  EXPECT_TRUE(OpenStream(config).CheckState(saved).ok()) << "the same contents, a newer file";
  std::filesystem::rename(folder_ / "set1.bin", folder_ / "moved.bin");
  std::filesystem::rename(folder_ / "set1.idx", folder_ / "moved.idx");
  StreamConfig moved = config;
  moved.datasets[1].prefix = folder_ / "moved";
  EXPECT_TRUE(OpenStream(moved).CheckState(saved).ok()) << "the same contents, another place";
}

TEST_F(SamplerTest, AChangedSettingIsNamed) {
  StreamConfig config = Make({5, 6}, 30, 8);
  SetFim(config, 0.1);
  const SamplerState saved = OpenStream(config).StateAt(77);
  const auto expect = [&](auto change, const std::string& text) {
    StreamConfig other = config;
    change(other);
    EXPECT_TRUE(Fails(OpenStream(other).CheckState(saved), ExitCode::kUsage, text));
  };
  expect([](StreamConfig& c) { c.seed = 7; }, "seed was 42 in the checkpoint and is 7 now");
  expect([](StreamConfig& c) { c.seq_len = 9; }, "sequence_length was 8");
  expect([](StreamConfig& c) { c.vocab_size += 1; }, "vocab_size was");
  expect([](StreamConfig& c) { c.shuffle = false; }, "shuffle was 1");
  expect([](StreamConfig& c) { c.shuffle_samples = true; }, "shuffle_samples was 0 in the checkpoint and is 1 now");
  expect([](StreamConfig& c) { c.fim_rate = 0.25; }, "fim_rate was 0.1 in the checkpoint and is 0.25 now");
  expect([](StreamConfig& c) { c.fim_hole += 5; }, "fim_hole was");
  expect([](StreamConfig& c) { c.datasets.pop_back(); }, "number of datasets was 2");
  expect([](StreamConfig& c) { c.datasets[1].weight = 5; }, "datasets[1].weight");
  StreamConfig masked = config;
  masked.document_mask = true;  // the tokens are the same
  EXPECT_TRUE(OpenStream(masked).CheckState(saved).ok());
}

TEST_F(SamplerTest, BadSettingsAreRefused) {
  const StreamConfig good = Make({5, 6}, 30, 8);
  const auto expect = [&](auto change, const std::string& text, ExitCode code = ExitCode::kUsage) {
    StreamConfig bad = good;
    SetFim(bad, 0.1);
    change(bad);
    EXPECT_TRUE(Fails(SampleStream::Open(bad).status(), code, text));
  };
  expect([](StreamConfig& c) { c.datasets.clear(); }, "no datasets");
  expect([](StreamConfig& c) { c.datasets.assign(241, c.datasets[0]); }, "241 datasets");
  expect([](StreamConfig& c) { c.datasets[1].weight = -1; }, "datasets[1].weight");
  expect([](StreamConfig& c) { c.seq_len = 0; }, "sequence_length is 0");
  expect([](StreamConfig& c) { c.seq_len = int64_t{1} << 40; }, "sequence_length is");
  expect([](StreamConfig& c) { c.vocab_size = 0; }, "vocab");
  expect([](StreamConfig& c) { c.fim_rate = 1.5; }, "fim_rate is 1.5");
  expect([](StreamConfig& c) { c.fim_rate = std::nan(""); }, "fim_rate is nan");
  expect([](StreamConfig& c) { c.fim_hole = -1; }, "fim_hole is token -1");
  expect([](StreamConfig& c) { c.eos = kTestVocab; }, "eos is token");
  expect([](StreamConfig& c) { c.fim_end = c.fim_begin; }, "fim_begin and fim_end are both");
  expect([](StreamConfig& c) { c.datasets[1].prefix += "x"; }, "set1x.idx", ExitCode::kIntegrity);
  WriteDataset(folder_ / "empty", {{}, {}});
  expect([&](StreamConfig& c) { c.datasets[0].prefix = folder_ / "empty"; }, "empty.bin: 0 tokens", ExitCode::kIntegrity);
}

TEST_F(SamplerTest, ReadReportsBadIndicesAndBadTokens) {
  StreamConfig config = Make({5}, 30, 8);
  SampleStream stream = OpenStream(config);
  std::vector<int32_t> tokens(9);
  EXPECT_TRUE(Fails(stream.Read(-1, tokens, {}), ExitCode::kUsage, "sample -1"));
  EXPECT_TRUE(Fails(stream.Read(int64_t{1} << 60, tokens, {}), ExitCode::kUsage, "sample 1152921504606846976"));
  config.vocab_size = 5;
  EXPECT_TRUE(Fails(OpenStream(config).Read(0, tokens, {}), ExitCode::kIntegrity, "outside the vocabulary of 5"));
}

}  // namespace
}  // namespace jevons
