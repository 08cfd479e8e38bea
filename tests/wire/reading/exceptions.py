"""The exceptions of the recorded requests, by exchange.

`INEXPRESSIBLE`: the field that no neutral request can say. `BEYOND_THE_TYPES`: what the vendor's published types refuse in what is written
back, as they refuse it in the recorded body: fields of compatible hosts, enums as numbers, what a client made wrong and the provider took.
`NOT_CARRIED`: what another wire cannot carry, and which these are; it is refused before anything is sent.
"""

__all__ = ["BEYOND_THE_TYPES", "INEXPRESSIBLE", "NOT_CARRIED"]

INEXPRESSIBLE: dict[str, dict[str, str]] = {
    "openai.chat": {
        "fantasy--testdata-TestOpenAICompatibleCommon-xai-grok-code-fast-tool-streaming-e5daff-1": "messages[2].reasoning_content",
        "fantasy-ata-TestOpenAICompatibleCommon-xai-grok-code-fast-multi-tool-streaming-dc4d93-1": "messages[2].reasoning_content",
        "fantasy-data-TestOpenRouterCommonWithAnthropicCache-anthropic-simple-streaming-3fc052-0": "messages[0].cache_control",
        "fantasy-ertests-testdata-TestOpenRouterCommonWithAnthropicCache-anthropic-tool-fff3b0-0": "messages[0].cache_control",
        "fantasy-ertests-testdata-TestOpenRouterCommonWithAnthropicCache-anthropic-tool-fff3b0-1": "messages[0].cache_control",
        "fantasy-ovidertests-testdata-TestOpenAICompatibleCommon-zai-glm-4-7-flash-tool-e6baab-1": "messages[2].reasoning_content",
        "fantasy-s-testdata-TestOpenAICompatibleCommon-llama-cpp-gpt-oss-tool-streaming-03d676-1": "messages[2].reasoning_content",
        "fantasy-s-testdata-TestOpenAICompatibleCommon-zai-glm-4-7-flash-tool-streaming-113253-1": "messages[2].reasoning_content",
        "fantasy-tests-testdata-TestOpenAICompatibleThinking-llama-cpp-gpt-oss-thinking-687b3d-1": "messages[2].reasoning_content",
        "pai-assettes-test-deepseek-test-deepseek-deferred-capability-with-thinking-c52e2a-1": "messages[3].reasoning_content",
        "pai-assettes-test-deepseek-test-deepseek-deferred-capability-with-thinking-c52e2a-2": "messages[3].reasoning_content",
        "pai-l-return-matrix-tool-return-content-uploaded-file-document-openai-chat-0efe2a-1": "messages[3].content.file.file_id",
    },
    "openai.responses": {
        "dd-tests-contrib-openai-cassettes-v1-response-with-file-inputs-ed0540-0": "model, which the stored prompt has",
        "dd-ts-contrib-openai-cassettes-v1-response-with-mixed-prompt-url-stripped-c7e0c8-0": "model, which the stored prompt has",
        "ddjs-s-dd-trace-test-llmobs-cassettes-openai-openai-responses-post-a18222ed-f7ad7c-0": "model, which the stored prompt has",
        "ddjs-s-dd-trace-test-llmobs-cassettes-openai-openai-responses-post-ec358e44-4c2e7f-0": "model, which the stored prompt has",
        "logfire-tests-otel-integrations-cassettes-test-openai-agents-test-file-search-264c66-1": "input[2].content.annotations",
        "pai-al-tool-return-matrix-direct-url-force-download-audio-openai-responses-8e57a7-1": "messages[2].content[0].mime",
        "pai-settes-test-openai-prompt-cache-test-openai-responses-prompt-cache-e2e-e280d1-0": "input[0].content.prompt_cache_breakpoint",
        "pai-settes-test-openai-prompt-cache-test-openai-responses-prompt-cache-e2e-e280d1-1": "input[0].content.prompt_cache_breakpoint",
    },
    "anthropic": {
        "dd-opic-cassettes-anthropic-completion-tools-call-with-tool-result-stream-345e6c-0": "a tool_use_id that names no call",
        "dd-ssettes-anthropic-completion-tools-call-with-tool-result-stream-helper-e452ca-0": "a tool_use_id that names no call",
    },
    "gemini": {
        "pai-cassettes-test-google-test-google-model-thinking-part-from-other-model-4d8bcf-1": "contents[1].parts[0].thought",
        "pai-tests-models-cassettes-test-google-test-google-model-thinking-part-3f1a5e-1": "contents[1].parts[0].thought",
    },
}

BEYOND_THE_TYPES: dict[str, dict[str, str]] = {
    "openai.chat": {
        "dd-tests-contrib-openai-cassettes-v1-deepseek-streamed-reasoning-content-769343-0": "thinking",
        "fantasy-idertests-testdata-TestOpenRouterCommon-anthropic-multi-tool-streaming-099dd2-0": "usage",
        "fantasy-idertests-testdata-TestOpenRouterCommon-anthropic-multi-tool-streaming-099dd2-1": "usage",
        "fantasy-idertests-testdata-TestOpenRouterThinking-anthropic-thinking-streaming-42277e-0": "reasoning",
        "oinf--test-asynchronous-streaming-chat-completions-emits-expected-span-True-377492-0": "safe_prompt",
        "oinf-ing-chat-completions-with-tool-call-response-emits-expected-spans-True-cfbe6a-0": "safe_prompt",
        "oinf-ng-chat-completions-with-tool-call-response-emits-expected-spans-False-a000ad-0": "safe_prompt",
        "oinf-test-asynchronous-streaming-chat-completions-emits-expected-span-False-88b370-0": "safe_prompt",
        "pai--multimodal-tool-return-matrix-direct-url-force-download-audio-mistral-7a1870-0": "tools.0",
    },
    "openai.responses": {
        "rubyllm--attachments-openai-gpt-5-nano-returns-text-and-attachments-from-tools-42bc8d-1": "reasoning without an id",
        "rubyllm--control-openai-gpt-5-nano-respects-calls-one-for-sequential-execution-ab953a-1": "reasoning without an id",
        "rubyllm--control-openai-gpt-5-nano-respects-calls-one-for-sequential-execution-ab953a-2": "reasoning without an id",
        "rubyllm--openai-gpt-5-nano-can-handle-multiple-tool-calls-in-a-single-response-e3d2e4-1": "reasoning without an id",
        "rubyllm--openai-gpt-5-nano-can-handle-multiple-tool-calls-in-a-single-response-e3d2e4-2": "reasoning without an id",
        "rubyllm--openai-gpt-5-nano-can-handle-multiple-tool-calls-in-a-single-response-e3d2e4-3": "reasoning without an id",
        "rubyllm--schema-with-openai-gpt-5-nano-allows-removing-schema-mid-conversation-436010-1": "reasoning without an id",
        "rubyllm-alects-with-azure-gpt-5-nano-chats-on-the-openai-v1-responses-endpoint-47040c-1": "reasoning without an id",
        "rubyllm-can-use-tools-without-parameters-in-multi-turn-streaming-conversations-e11da1-1": "reasoning without an id",
        "rubyllm-can-use-tools-without-parameters-in-multi-turn-streaming-conversations-e11da1-2": "reasoning without an id",
        "rubyllm-g-tool-results-openai-gpt-5-nano-preserves-strings-returned-from-tools-65d985-1": "reasoning without an id",
        "rubyllm-odal-tool-attachments-openai-gpt-5-nano-reads-pdfs-returned-from-tools-4b43f5-1": "reasoning without an id",
        "rubyllm-oice-and-calls-control-openai-gpt-5-nano-respects-specific-tool-choice-0e7e4b-1": "reasoning without an id",
        "rubyllm-onality-openai-gpt-5-nano-replaces-previous-system-messages-by-default-bcde8a-1": "reasoning without an id",
        "rubyllm-ool-attachments-openai-gpt-5-nano-describes-images-returned-from-tools-9e6896-1": "reasoning without an id",
        "rubyllm-s-vcr-cassettes-chat-text-models-openai-gpt-5-nano-can-understand-text-1cbcd0-1": "reasoning without an id",
        "rubyllm-tures-vcr-cassettes-chat-pdf-models-openai-gpt-5-nano-understands-pdfs-0f52e5-1": "reasoning without an id",
    },
    "anthropic": {
        "ddjs-ce-test-llmobs-cassettes-anthropic-anthropic-v1-messages-post-77bd4579-2ff908-0": "top_p",
        "ddjs-ce-test-llmobs-cassettes-anthropic-anthropic-v1-messages-post-a0f05e2e-6703ff-0": "top_p",
    },
    "gemini": {
        "lcgo-chains-testdata-TestLLMChainWithGoogleAI-d68ea2-0": "safetySettings",
        "lcgo-llms-googleai-testdata-TestGoogleAIErrorHandling-54f7e6-0": "safetySettings",
        "lcgo-llms-googleai-testdata-TestGoogleAIGenerateContentWithMultipleMessages-6afc42-0": "safetySettings",
        "lcgo-llms-googleai-testdata-TestGoogleAIGenerateContentWithSystemMessage-d1c990-0": "safetySettings",
        "lcgo-llms-googleai-testdata-TestGoogleAIWithJSONMode-6ce0d3-0": "safetySettings",
        "lcgo-llms-googleai-testdata-TestGoogleAIWithOptions-183567-0": "safetySettings",
    },
}

NOT_CARRIED: dict[str, dict[str, tuple[str, ...]]] = {
    "openai.chat": {
        "ddjs-ace-test-llmobs-cassettes-openai-openai-chat-completions-post-781929fc-ee0043-0": (
            "this wire takes no audio",
            "openai.responses",
            "anthropic",
        ),
        "logfire-egrations-cassettes-test-openai-test-chat-completions-with-audio-input-abd934-0": (
            "this wire takes no audio",
            "openai.responses",
            "anthropic",
        ),
        "pai-tests-models-cassettes-test-openai-test-audio-as-binary-content-input-36bd5c-0": (
            "this wire takes no audio",
            "openai.responses",
            "anthropic",
        ),
        "rubyllm-ettes-chat-audio-models-openai-gpt-audio-mini-can-understand-mp3-audio-1b31ac-0": (
            "this wire takes no audio",
            "openai.responses",
            "anthropic",
        ),
    },
    "openai.responses": {
        "pai-ests-models-cassettes-test-openai-test-document-url-input-response-api-199e5b-0": (
            "this wire takes files by their bytes, not by URL",
            "openai.chat",
        ),
        "rubyllm-hat-spreadsheet-models-openai-gpt-5-nano-understands-xlsx-spreadsheets-30d1f7-0": (
            "this wire takes PDFs, texts and images, not application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "anthropic",
        ),
        "rubyllm-ttes-chat-document-models-openai-gpt-5-nano-understands-docx-documents-4f4270-0": (
            "this wire takes PDFs, texts and images, not application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "anthropic",
        ),
    },
    "anthropic": {
        "pai-tests-models-cassettes-test-anthropic-test-document-url-input-21aebc-0": (
            "this wire takes files by their bytes, not by URL",
            "openai.chat",
        ),
        "rubyllm-ettes-chat-pdf-models-anthropic-claude-haiku-4-5-handles-multiple-pdfs-3100ce-0": (
            "this wire takes files by their bytes, not by URL",
            "openai.chat",
        ),
        "rubyllm-ettes-chat-pdf-models-anthropic-claude-haiku-4-5-handles-multiple-pdfs-3100ce-1": (
            "this wire takes files by their bytes, not by URL",
            "openai.chat",
        ),
    },
    "gemini": {
        "ellmer-tests-testthat-vcr-google-upload-853545-0": ("this wire takes files by their bytes, not by URL", "openai.chat"),
        "ellmer-tests-testthat-vcr-google-upload-853545-1": ("this wire takes files by their bytes, not by URL", "openai.chat"),
        "ellmer-tests-testthat-vcr-google-upload-853545-2": ("this wire takes files by their bytes, not by URL", "openai.chat"),
        "pai-ests-models-cassettes-test-google-test-google-url-input-DocumentUrl-gs-05c43b-0": (
            "this wire takes https addresses only, not gs",
            "openai.chat",
            "openai.responses",
            "anthropic",
        ),
        "pai-models-cassettes-test-google-test-google-model-youtube-video-url-input-175a17-0": (
            "this wire takes no video",
            "openai.chat",
            "openai.responses",
            "anthropic",
        ),
        "pai-tests-models-cassettes-test-google-test-google-url-input-ImageUrl-gs-a1557f-0": (
            "this wire takes https addresses only, not gs",
            "openai.chat",
            "openai.responses",
            "anthropic",
        ),
        "pai-tests-models-cassettes-test-google-test-google-url-input-VideoUrl-0266d9-0": (
            "this wire takes no video",
            "openai.chat",
            "openai.responses",
            "anthropic",
        ),
        "pai-ts-models-cassettes-test-google-test-google-url-input-VideoUrl-YouTube-25891a-0": (
            "this wire takes no video",
            "openai.chat",
            "openai.responses",
            "anthropic",
        ),
        "pai--return-matrix-tool-return-content-url-force-download-audio-google-2-5-840bda-1": (
            "this wire takes no audio",
            "openai.responses",
            "anthropic",
        ),
        "pai--test-multimodal-tool-return-matrix-direct-binary-audio-google-gemini3-ad0cd8-2": (
            "this wire takes no audio",
            "openai.responses",
            "anthropic",
        ),
        "pai-ests-models-cassettes-test-google-test-google-url-input-force-download-c0eff1-0": (
            "this wire takes no video",
            "openai.responses",
            "anthropic",
        ),
        "rubyllm-tes-chat-audio-models-gemini-gemini-2-5-flash-can-understand-mp3-audio-fe2a83-0": (
            "this wire takes no audio",
            "openai.responses",
            "anthropic",
        ),
        "otel-umentation-vertexai-tests-cassettes-test-generate-content-extra-params-caf648-0": (
            "this wire takes no white space to stop at",
            "anthropic",
        ),
    },
}
