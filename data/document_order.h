// The order in which a dataset's documents are read: a stream of tokens without end, epoch after epoch, each
// epoch holding every document once, in an order of its own. A stream position is found without replay and
// without a table over all documents:
//
// Buckets. A permutation fixed by the key deals the documents into buckets of about `bucket_documents`. What
// a bucket holds in tokens never changes, and is summed once, when the stream is opened.
//
// Epochs. An epoch permutes the buckets, and the documents inside each. Entering an epoch sums over buckets;
// entering a bucket sums over its documents. Both tables are kept until the stream leaves them.
//
// Fill-in-the-middle. Of the documents long enough for it, counted through all buckets and epochs, the first
// n hold floor(n rate) chosen ones: so each epoch's and bucket's length is known in closed form. Which ones
// in a bucket are chosen, another permutation tells, anew in each epoch.
#ifndef JEVONS_DATA_DOCUMENT_ORDER_H_
#define JEVONS_DATA_DOCUMENT_ORDER_H_

#include <cstdint>
#include <vector>

#include "data/index/indexed_dataset.h"
#include "data/permutation.h"

namespace jevons {

class DocumentOrder {
 public:
  struct Config {
    uint64_t key = 0;
    bool shuffle = true;  // false: the order of the file, in every epoch
    double fim_rate = 0;  // share of the documents to rearrange, in [0, 1]
    int64_t bucket_documents = 16384;
  };

  // One document in its place: tokens [begin, end) of the stream.
  struct Item {
    int64_t document;
    int64_t epoch;
    int64_t begin;
    int64_t end;
    bool fim;
  };

  // The dataset must outlive this. REQUIRES: it holds at least one token.
  DocumentOrder(const IndexedDataset& dataset, const Config& config);

  // The document that holds token `position` of the stream. REQUIRES: 0 <= position <= 2^61 + 2^50.
  Item At(int64_t position);

  // The stream position where an epoch begins, and the epoch that holds a position.
  int64_t EpochStart(int64_t epoch) const;
  int64_t EpochOf(int64_t position) const;

  // Tokens of the longest document.
  int64_t longest() const { return longest_; }

 private:
  // A document of the current bucket. It ends where the next one begins; the table ends with a sentinel.
  struct Entry {
    int64_t document;
    int64_t begin;
    bool fim;
  };

  void SumBuckets();
  void EnterEpoch(int64_t epoch);
  void EnterBucket(int64_t place);
  int64_t FimChosen(int64_t eligible) const;
  int64_t FimChosenInBucket(int64_t bucket) const;

  const IndexedDataset* dataset_;
  Config config_;
  uint64_t fim_share_;  // the rate in units of 2^-32
  Permutation bucketing_;
  int64_t longest_ = 0;
  std::vector<int64_t> bucket_tokens_;    // [buckets], as in the file
  std::vector<int64_t> eligible_before_;  // [buckets + 1], documents that fill-in-the-middle may choose

  int64_t epoch_ = -1;                // the epoch that the next two describe
  std::vector<int64_t> bucket_at_;    // [buckets], by place in the epoch
  std::vector<int64_t> place_begin_;  // [buckets + 1], stream positions
  int64_t place_ = -1;                // the bucket's place that entries_ describes
  std::vector<Entry> entries_;        // [documents of the bucket + 1]
};

}  // namespace jevons

#endif  // JEVONS_DATA_DOCUMENT_ORDER_H_
