// Streams over small datasets of numbered tokens.
#ifndef JEVONS_TESTS_DATA_SAMPLER_FIXTURE_H_
#define JEVONS_TESTS_DATA_SAMPLER_FIXTURE_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "data/sampler.h"
#include "tests/data/test_data.h"

namespace jevons {

inline constexpr int32_t kEos = 1'000'000, kBegin = 1'000'001, kHole = 1'000'002, kEnd = 1'000'003;

inline SampleStream OpenStream(const StreamConfig& config) {
  absl::StatusOr<SampleStream> stream = SampleStream::Open(config);
  JEVONS_CHECK(stream.ok(), "%s", stream.status().ToString().c_str());
  return *std::move(stream);
}

inline std::vector<int32_t> ReadSample(SampleStream& stream, int64_t index) {
  std::vector<int32_t> tokens(static_cast<size_t>(stream.LengthOf(index)) + 1);
  const absl::Status status = stream.Read(index, tokens, {});
  EXPECT_TRUE(status.ok()) << status;
  return tokens;
}

class SamplerTest : public ::testing::Test {
 protected:
  // Datasets of numbered tokens: that of dataset i begin at 100000 i. Samples are not shuffled.
  StreamConfig Make(const std::vector<int64_t>& documents, int64_t max_length, int64_t seq_len) {
    StreamConfig config{.seq_len = seq_len, .seed = 42, .vocab_size = kTestVocab, .shuffle_samples = false};
    documents_.clear();
    for (size_t i = 0; i < documents.size(); ++i) {
      const std::string prefix = folder_ / ("set" + std::to_string(i));
      documents_.push_back(NumberedDocuments(documents[i], max_length, i, static_cast<int32_t>(100'000 * i)));
      WriteDataset(prefix, documents_.back());
      config.datasets.push_back({prefix, 1.0 + static_cast<double>(i)});
    }
    return config;
  }
  static void SetFim(StreamConfig& config, double rate) {
    config.fim_rate = rate;
    config.fim_begin = kBegin;
    config.fim_hole = kHole;
    config.fim_end = kEnd;
    config.eos = kEos;
  }

  const TempFolder folder_;
  std::vector<Documents> documents_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_DATA_SAMPLER_FIXTURE_H_
