"""The entries of architectures that hear and do not see."""

from __future__ import annotations

from sweep.entries import Entry
from sweep.sizes import DECODER
from sweep.text import QWEN3

AUDIO: dict[str, Entry] = {
    "CohereAsrForConditionalGeneration": Entry(
        fields={
            "transf_decoder": {
                "config_dict": {
                    **{"hidden_size": 128, "max_sequence_length": 512, "num_attention_heads": 4, "num_layers": 2},
                    **{"inner_size": 256, "hidden_act": "relu"},
                }
            },
            **{"head": {"num_classes": 1000, "hidden_size": 128}, "encoder": {"n_heads": 4, "d_model": 128}},
        }
    ),
    "FireRedASR2ForConditionalGeneration": Entry("fireredasr2", DECODER),
    "FunASRForConditionalGeneration": Entry("funasr", DECODER),
    "FunAudioChatForConditionalGeneration": Entry(
        "funaudiochat",
        {
            "text_config": {**DECODER, "model_type": "qwen3", "head_dim": 32},
            "audio_config": {
                **{"encoder_layers": 2, "d_model": 128, "encoder_attention_heads": 4, "encoder_ffn_dim": 256},
                **{"output_dim": 128, "codebook_size": 100, "pad_token_id": 0},
                "crq_transformer_config": {**DECODER, "model_type": "qwen3", "head_dim": 32},
            },
        },
        whole=True,
    ),
    "MoonshotKimiaForCausalLM": Entry("kimi_audio", {**DECODER, "kimia_adaptor_input_dim": 128}),
    "MossAudioModel": Entry(
        "moss_audio",
        {
            "language_config": QWEN3,
            "audio_config": {
                **{"model_type": "moss_audio_encoder", "d_model": 128, "encoder_layers": 2, "dropout": 0.0},
                **{"encoder_ffn_dim": 256, "output_dim": 128, "num_mel_bins": 80, "n_window": 50},
                **{"max_source_positions": 100, "activation_function": "gelu", "activation_dropout": 0.0},
                **{"downsample_hidden_size": 64, "conv_chunksize": 100, "deepstack_encoder_layer_indexes": [0]},
                **{"layer_norm_eps": 1e-5, "attention_dropout": 0.0, "encoder_attention_heads": 4},
            },
            **{"adapter_hidden_size": 128, "deepstack_num_inject_layers": 1, "tie_word_embeddings": False},
        },
        {"language_model_only": False},
    ),
    "MiDashengLMModel": Entry("midashenglm"),
    "MossTranscribeDiarizeForConditionalGeneration": Entry("moss_transcribe_diarize"),
    "Qwen3ASRRealtimeGeneration": Entry("qwen3_asr"),
    "UltravoxModel": Entry(
        "ultravox",
        {
            **{"text_config": {**DECODER, "model_type": "llama"}, "hidden_size": 128, "vocab_size": 1000},
            "audio_config": {
                **{"model_type": "whisper", "d_model": 128, "encoder_layers": 2, "encoder_attention_heads": 4},
                **{"encoder_ffn_dim": 256, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 256},
            },
        },
        whole=True,
    ),
    "VoxtralForConditionalGeneration": Entry(
        fields={
            "audio_config": {
                **{"d_model": 128, "downsample_factor": 4, "window_size": 400, "hop_length": 160},
                **{"sampling_rate": 16000, "global_log_mel_max": None},
            }
        }
    ),
    "VoxtralRealtimeGeneration": Entry("voxtral_realtime"),
}
