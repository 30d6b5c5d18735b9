#include "data/loader.h"

#include <algorithm>

#include "tests/data/test_data.h"

namespace jevons {
namespace {

class LoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteDataset(folder_ / "set", NumberedDocuments(300, 60, 1));
    config_ = {.datasets = {{folder_ / "set", 1}}, .seq_len = 16, .seed = 3, .document_mask = true, .vocab_size = kTestVocab};
  }

  SampleStream Open() { return *SampleStream::Open(config_); }

  // The batch is what direct reading gives.
  static void ExpectBatch(const SampleBatch& batch, SampleStream& direct, int64_t first, int64_t count) {
    const auto seq_len = static_cast<size_t>(direct.config().seq_len);
    ASSERT_EQ(batch.first, first);
    ASSERT_EQ(batch.count, count);
    ASSERT_EQ(batch.tokens.size(), static_cast<size_t>(count) * (seq_len + 1));
    std::vector<int32_t> tokens(seq_len + 1), starts(direct.config().document_mask ? seq_len : 0);
    ASSERT_EQ(batch.document_start.size(), static_cast<size_t>(count) * starts.size());
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(direct.Read(first + i, tokens, starts).ok());
      ASSERT_TRUE(std::equal(tokens.begin(), tokens.end(), batch.tokens.begin() + i * std::ssize(tokens)));
      ASSERT_TRUE(std::equal(starts.begin(), starts.end(), batch.document_start.begin() + i * std::ssize(starts)));
    }
  }

  const TempFolder folder_;
  StreamConfig config_;
};

TEST_F(LoaderTest, GivesWhatDirectReadingGives) {
  for (const bool masked : {true, false}) {
    config_.document_mask = masked;
    SampleStream direct = Open();
    Loader loader(Open());
    std::mt19937_64 random(51);
    std::deque<std::pair<int64_t, int64_t>> asked;
    for (int trial = 0; trial < 400; ++trial) {
      for (uint64_t ahead = random() % 3 + asked.empty(); ahead > 0; --ahead) {
        asked.emplace_back(random() % 5000, random() % 6);  // anywhere, and counts of zero
        loader.Request(asked.back().first, asked.back().second);
      }
      const absl::StatusOr<const SampleBatch*> batch = loader.Next();
      ASSERT_TRUE(batch.ok()) << batch.status();
      ExpectBatch(**batch, direct, asked.front().first, asked.front().second);
      asked.pop_front();
    }
  }
}

TEST_F(LoaderTest, ABatchStaysWhileOthersAreRead) {
  SampleStream direct = Open();
  Loader loader(Open());
  for (int64_t i = 0; i < 50; ++i) loader.Request(i * 4, 4);
  for (int64_t i = 0; i < 50; ++i) {
    const SampleBatch* batch = *loader.Next();
    if (i % 7 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // let the thread fill all it may
    ExpectBatch(*batch, direct, i * 4, 4);
  }
}

TEST_F(LoaderTest, StopsInMidFlight) {
  for (int trial = 0; trial < 50; ++trial) {
    Loader loader(Open());
    for (int64_t i = 0; i < trial; ++i) loader.Request(i * 1000, 100'000 * (trial % 2));
    if (trial % 4 == 2) {
      EXPECT_TRUE(loader.Next().ok());
    }
  }
}

TEST_F(LoaderTest, CancelForgetsAndGoesOn) {
  SampleStream direct = Open();
  Loader loader(Open());
  for (int64_t trial = 0; trial < 100; ++trial) {
    loader.Request(0, 1000);
    loader.Request(7, 3);
    loader.Request(8, 3);
    if (trial % 3 == 0) {
      ASSERT_TRUE(loader.Next().ok());
    }
    loader.Cancel();
    EXPECT_TRUE(Fails(loader.Next().status(), ExitCode::kFailure, "without a Request"));
    loader.Request(trial, 2);
    const absl::StatusOr<const SampleBatch*> batch = loader.Next();
    ASSERT_TRUE(batch.ok());
    ExpectBatch(**batch, direct, trial, 2);
  }
}

TEST_F(LoaderTest, AnErrorOfReadingComesOutOfNext) {
  Loader loader(Open());
  loader.Request(0, 2);
  loader.Request(-5, 1);
  loader.Request(2, 2);
  EXPECT_TRUE(loader.Next().ok()) << "what was read before the error is good";
  for (int repeat = 0; repeat < 3; ++repeat) {
    EXPECT_TRUE(Fails(loader.Next().status(), ExitCode::kUsage, "sample -5"));
  }
}

TEST_F(LoaderTest, NextWithoutARequestDoesNotHang) {
  Loader loader(Open());
  EXPECT_TRUE(Fails(loader.Next().status(), ExitCode::kFailure, "without a Request"));
}

}  // namespace
}  // namespace jevons
