#include "data/prepare/encode.h"

#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "data/index/indexed_dataset.h"
#include "data/prepare/document_text.h"
#include "data/prepare/ordered_pipeline.h"
#include "data/tokenizer/encoder.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

struct EncodedBatch {
  struct Document {
    int64_t tokens;
    int64_t bytes;  // of text
  };
  absl::Status status;
  std::vector<int32_t> ids;  // of all its documents, one after the other
  std::vector<Document> documents;
};

EncodedBatch EncodeBatch(DocumentBatch batch, const Corpus& corpus, int32_t eos, Encoder& encoder) {
  EncodedBatch result;
  for (RawDocument& raw : batch.documents) {
    const absl::StatusOr<std::string> text = DocumentText(std::move(raw), *batch.input, corpus.text_field);
    if (!text.ok() && corpus.on_bad_line == BadLine::kSkip) continue;  // the survey has counted it
    if (!text.ok()) {
      result.status = text.status();
      return result;
    }
    if (text->empty()) continue;
    const size_t before = result.ids.size();
    encoder.Append(*text, SpecialText::kPlain, result.ids);
    result.ids.push_back(eos);
    result.documents.push_back({static_cast<int64_t>(result.ids.size() - before), static_cast<int64_t>(text->size())});
  }
  return result;
}

// One side of the split.
class SplitWriter {
 public:
  absl::Status Open(const std::string& prefix, int64_t vocab_size) {
    JEVONS_ASSIGN_OR_RETURN(writer_, IndexedDatasetWriter::Create(prefix, vocab_size));
    return absl::OkStatus();
  }
  absl::Status Add(std::span<const int32_t> ids, int64_t bytes) {
    info_.bytes += bytes;
    return writer_->AddDocument(ids);
  }
  absl::StatusOr<SplitInfo> Finish() {
    if (!writer_) return info_;
    info_.documents = writer_->documents();
    info_.tokens = writer_->tokens();
    JEVONS_RETURN_IF_ERROR(writer_->Finish());
    return info_;
  }

 private:
  std::optional<IndexedDatasetWriter> writer_;
  SplitInfo info_;
};

absl::Status InputsChanged() {
  return IntegrityError(
      "the inputs changed while they were read: the second pass found other documents than the "
      "first; run again when nothing writes to them");
}

}  // namespace

absl::StatusOr<EncodedCorpus> EncodeCorpus(const Corpus& corpus, const Tokenizer& tokenizer, const ValidationSplit& split,
                                           int64_t documents, const std::string& folder) {
  SplitWriter train, validation;
  JEVONS_RETURN_IF_ERROR(train.Open(folder + "/train", tokenizer.vocab_size()));
  if (split.has_validation()) {
    JEVONS_RETURN_IF_ERROR(validation.Open(folder + "/validation", tokenizer.vocab_size()));
  }
  std::vector<Encoder> encoders(corpus.threads, Encoder(tokenizer));
  CorpusReader reader(corpus, "encoding");
  int64_t next_document = 0;

  const auto encode = [&](int worker, DocumentBatch batch) {
    return EncodeBatch(std::move(batch), corpus, tokenizer.eos_id(), encoders[worker]);
  };
  const auto write = [&](const EncodedBatch& batch) -> absl::Status {
    JEVONS_RETURN_IF_ERROR(batch.status);
    std::span<const int32_t> ids = batch.ids;
    for (const EncodedBatch::Document& document : batch.documents) {
      if (next_document == documents) return InputsChanged();
      SplitWriter& side = split.IsValidation(next_document++) ? validation : train;
      JEVONS_RETURN_IF_ERROR(side.Add(ids.first(document.tokens), document.bytes));
      ids = ids.subspan(document.tokens);
    }
    return absl::OkStatus();
  };
  JEVONS_RETURN_IF_ERROR((RunOrdered<DocumentBatch, EncodedBatch>(
      corpus.threads, [&] { return reader.Next(); }, encode, write)));
  if (next_document != documents) return InputsChanged();
  EncodedCorpus encoded;
  JEVONS_ASSIGN_OR_RETURN(encoded.train, train.Finish());
  JEVONS_ASSIGN_OR_RETURN(encoded.validation, validation.Finish());
  return encoded;
}

}  // namespace jevons
