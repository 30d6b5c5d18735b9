#include "data/document_order.h"

#include <algorithm>
#include <map>
#include <set>

#include "data/fim.h"
#include "tests/data/test_data.h"

namespace jevons {
namespace {

// The documents of one epoch, in order, walked from EpochStart on.
std::vector<DocumentOrder::Item> Walk(DocumentOrder& order, int64_t epoch) {
  std::vector<DocumentOrder::Item> items;
  const int64_t end = order.EpochStart(epoch + 1);
  for (int64_t position = order.EpochStart(epoch); position < end; position = items.back().end) {
    items.push_back(order.At(position));
    EXPECT_EQ(items.back().begin, position);
    EXPECT_EQ(items.back().epoch, epoch);
    if (items.back().end <= position) break;
  }
  EXPECT_EQ(items.back().end, end) << "an epoch ends with a document";
  return items;
}

class DocumentOrderTest : public ::testing::Test {
 protected:
  void Make(int64_t documents, int64_t max_length, uint64_t seed) {
    WriteDataset(folder_ / "set", NumberedDocuments(documents, max_length, seed));
    dataset_.emplace(*IndexedDataset::Open(folder_ / "set", kTestVocab));
  }

  int64_t NonEmpty() const {
    int64_t count = 0;
    for (int64_t d = 0; d < dataset_->documents(); ++d) count += dataset_->DocumentLength(d) > 0;
    return count;
  }

  const TempFolder folder_;
  std::optional<IndexedDataset> dataset_;
};

TEST_F(DocumentOrderTest, EveryDocumentOncePerEpoch) {
  std::mt19937_64 random(21);
  for (int trial = 0; trial < 40; ++trial) {
    Make(1 + static_cast<int64_t>(random() % 90), 1 + static_cast<int64_t>(random() % 12), random());
    DocumentOrder order(*dataset_, {.key = random(),
                                    .shuffle = trial % 5 != 0,
                                    .fim_rate = trial % 2 == 0 ? 0.0 : 0.3,
                                    .bucket_documents = 1 + static_cast<int64_t>(random() % 40)});
    EXPECT_EQ(order.EpochStart(0), 0);
    for (const int64_t epoch : {0, 1, 2, 50, 3}) {
      const std::vector<DocumentOrder::Item> items = Walk(order, epoch);
      std::set<int64_t> seen;
      for (const DocumentOrder::Item& item : items) {
        ASSERT_TRUE(seen.insert(item.document).second) << "document " << item.document << " twice";
        const int64_t length = dataset_->DocumentLength(item.document);
        ASSERT_EQ(item.end - item.begin, length + (item.fim ? kFimExtraTokens : 0));
        ASSERT_TRUE(!item.fim || length >= kFimMinTokens);
      }
      ASSERT_EQ(static_cast<int64_t>(items.size()), NonEmpty());
    }
  }
}

TEST_F(DocumentOrderTest, AnyPositionAnswersLikeTheWalk) {
  std::mt19937_64 random(22);
  Make(70, 9, 5);
  const DocumentOrder::Config config{.key = 3, .fim_rate = 0.2, .bucket_documents = 8};
  DocumentOrder walked(*dataset_, config), jumped(*dataset_, config);
  std::vector<DocumentOrder::Item> items;
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    for (const DocumentOrder::Item& item : Walk(walked, epoch)) items.push_back(item);
  }
  for (int trial = 0; trial < 5000; ++trial) {
    const auto position = static_cast<int64_t>(random() % static_cast<uint64_t>(items.back().end));
    const DocumentOrder::Item item = jumped.At(position);
    const auto expected = std::upper_bound(items.begin(), items.end(), position,
                                           [](int64_t value, const auto& other) { return value < other.end; });
    ASSERT_EQ(item.document, expected->document);
    ASSERT_EQ(item.epoch, expected->epoch);
    ASSERT_EQ(item.begin, expected->begin);
    ASSERT_EQ(item.fim, expected->fim);
  }
}

TEST_F(DocumentOrderTest, FarPositionsOfATinyDataset) {
  Make(3, 2, 1);
  DocumentOrder order(*dataset_, {.key = 3, .fim_rate = 0.5});
  const int64_t position = (int64_t{1} << 61) - 3;
  const DocumentOrder::Item item = order.At(position);
  EXPECT_LE(item.begin, position);
  EXPECT_GT(item.end, position);
  EXPECT_LE(order.EpochStart(item.epoch), position);
  EXPECT_GT(order.EpochStart(item.epoch + 1), position);
}

TEST_F(DocumentOrderTest, WithoutShuffleTheOrderOfTheFile) {
  Make(50, 5, 2);
  DocumentOrder order(*dataset_, {.key = 3, .shuffle = false, .bucket_documents = 7});
  for (const int64_t epoch : {0, 4}) {
    const std::vector<DocumentOrder::Item> items = Walk(order, epoch);
    EXPECT_TRUE(std::is_sorted(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.document < b.document; }));
  }
}

TEST_F(DocumentOrderTest, EpochsAndKeysDiffer) {
  Make(200, 5, 2);
  const auto documents = [&](uint64_t key, int64_t epoch) {
    DocumentOrder order(*dataset_, {.key = key, .bucket_documents = 64});
    std::vector<int64_t> ids;
    for (const DocumentOrder::Item& item : Walk(order, epoch)) ids.push_back(item.document);
    return ids;
  };
  const std::set<std::vector<int64_t>> orders = {documents(1, 0), documents(1, 1), documents(1, 2), documents(2, 0)};
  EXPECT_EQ(orders.size(), 4u);
  EXPECT_EQ(documents(1, 1), documents(1, 1));
}

TEST_F(DocumentOrderTest, FimChoosesItsRateAndEveryDocumentInTurn) {
  Make(400, 6, 8);
  for (const double rate : {0.1, 0.5, 1.0}) {
    DocumentOrder order(*dataset_, {.key = 9, .shuffle = rate != 0.5, .fim_rate = rate, .bucket_documents = 33});
    constexpr int64_t kEpochs = 200;
    std::map<int64_t, int64_t> chosen;  // epochs in which a document was
    int64_t total = 0, eligible = 0;
    for (int64_t d = 0; d < dataset_->documents(); ++d) eligible += dataset_->DocumentLength(d) >= kFimMinTokens;
    for (int64_t epoch = 0; epoch < kEpochs; ++epoch) {
      for (const DocumentOrder::Item& item : Walk(order, epoch)) {
        chosen[item.document] += item.fim;
        total += item.fim;
      }
      EXPECT_NEAR(static_cast<double>(total), rate * static_cast<double>(eligible * (epoch + 1)), 1.001);
    }
    for (const auto& [document, epochs] : chosen) {
      const bool can = dataset_->DocumentLength(document) >= kFimMinTokens;
      EXPECT_NEAR(static_cast<double>(epochs), can ? rate * kEpochs : 0, can ? 35 : 0) << document;
    }
  }
}

}  // namespace
}  // namespace jevons
