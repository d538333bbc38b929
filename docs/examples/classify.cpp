// Classifies the lines of standard input with a text-in graph, as `python -m finetune text_in`
// writes it: one line "label<tab>probability<tab>text" for each. Needs ONNX Runtime and nothing
// else; 1.18 or newer, and its C header, which is in every release archive:
//
//     g++ -std=c++17 -I INCLUDE classify.cpp LIBRARY -o classify
//     ./classify text.onnx < texts.txt

#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

static const uint32_t kApiVersion = 18;  // of ONNX Runtime 1.18; newer libraries have it too
static const size_t kBatch = 32;         // texts in one call

static const OrtApi* ort = nullptr;

static void check(OrtStatus* status) {
  if (status == nullptr) return;
  std::fprintf(stderr, "%s\n", ort->GetErrorMessage(status));
  std::exit(1);
}

struct Session {
  OrtEnv* env = nullptr;
  OrtSession* session = nullptr;
  OrtMemoryInfo* memory = nullptr;

  explicit Session(const char* path) {
    OrtSessionOptions* options = nullptr;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "classify", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    // slower than the two operators that it replaces
    check(ort->AddSessionConfigEntry(options, "optimization.disable_specified_optimizers",
                                     "SkipLayerNormFusion"));
    check(ort->CreateSession(env, path, options, &session));
    ort->ReleaseSessionOptions(options);
    check(ort->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
  }

  ~Session() {
    ort->ReleaseMemoryInfo(memory);
    ort->ReleaseSession(session);
    ort->ReleaseEnv(env);
  }

  void classify(const std::vector<std::string>& texts) const {
    const int64_t count = static_cast<int64_t>(texts.size());
    std::vector<const char*> strings;
    for (const std::string& text : texts) strings.push_back(text.c_str());

    OrtAllocator* allocator = nullptr;
    OrtValue* input = nullptr;
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->CreateTensorAsOrtValue(allocator, &count, 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
                                      &input));
    check(ort->FillStringTensor(input, strings.data(), strings.size()));

    const char* input_names[] = {"text"};
    const char* output_names[] = {"label", "probabilities"};
    const OrtValue* inputs[] = {input};
    OrtValue* outputs[] = {nullptr, nullptr};
    check(ort->Run(session, nullptr, input_names, inputs, 1, output_names, 2, outputs));

    float* probabilities = nullptr;
    OrtTensorTypeAndShapeInfo* shape = nullptr;
    size_t values = 0;
    check(ort->GetTensorMutableData(outputs[1], reinterpret_cast<void**>(&probabilities)));
    check(ort->GetTensorTypeAndShape(outputs[1], &shape));
    check(ort->GetTensorShapeElementCount(shape, &values));
    const size_t classes = values / texts.size();
    for (size_t row = 0; row < texts.size(); ++row) {
      size_t length = 0;
      check(ort->GetStringTensorElementLength(outputs[0], row, &length));
      std::string label(length, '\0');
      check(ort->GetStringTensorElement(outputs[0], length, row, &label[0]));
      const float* first = probabilities + row * classes;
      std::printf("%s\t%.4f\t%s\n", label.c_str(), *std::max_element(first, first + classes),
                  texts[row].c_str());
    }
    ort->ReleaseTensorTypeAndShapeInfo(shape);
    for (OrtValue* output : outputs) ort->ReleaseValue(output);
    ort->ReleaseValue(input);
  }
};

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s text.onnx < texts\n", argv[0]);
    return 2;
  }
  ort = OrtGetApiBase()->GetApi(kApiVersion);
  if (ort == nullptr) {
    std::fprintf(stderr, "this ONNX Runtime (%s) is older than 1.18\n",
                 OrtGetApiBase()->GetVersionString());
    return 1;
  }
  const Session session(argv[1]);
  std::vector<std::string> texts;
  std::string line;
  while (std::getline(std::cin, line)) {
    texts.push_back(line);
    if (texts.size() == kBatch) {
      session.classify(texts);
      texts.clear();
    }
  }
  if (!texts.empty()) session.classify(texts);
  return 0;
}
