"""Says which test stands for which rule of Stratum V2's common and mining protocols.

A row is a message or a rule of sv2-spec sections 3 (common) and 5 (mining), or of extension 0x0001,
as this project reads them; behind it the tests that hold the pool to it. `test_rows.py` checks that
each row has a test and that each test exists.
"""

ROWS: dict[str, tuple[str, ...]] = {
    # Common.
    "SetupConnection is first": (
        "test_setup_connection_must_be_first",
        "test_setup_connection_again_is_ignored",
    ),
    "SetupConnection fields": ("test_setup_texts_may_have_255_bytes_of_anything",),
    "SetupConnection.Success": ("test_setup_connection_is_answered",),
    "SetupConnection.Error then close": (
        "test_setup_connection_error_for_other_protocols",
        "test_setup_connection_error_for_other_versions",
    ),
    "SetupConnection versions": ("test_setup_connection_takes_ranges_with_version_2",),
    "SetupConnection.Error names the full set of flags": (
        "test_setup_connection_error_names_all_unsupported_flags",
    ),
    "SetupConnection.Error is always the same": (
        "test_setup_connection_error_is_the_same_each_time",
    ),
    "ChannelEndpointChanged": ("test_channel_endpoint_changed_is_never_sent_by_an_endpoint",),
    "Reconnect": ("test_reconnect_reaches_the_client",),
    "error codes are printable": ("test_error_codes_are_printable",),
    "unknown extension types are discarded": ("test_unknown_extension_is_ignored",),
    "unknown message types are discarded": ("test_unknown_core_messages_are_ignored",),
    "RequestExtensions follows the set-up": (
        "test_request_extensions_is_answered_before_everything_else",
        "test_request_extensions_too_late_is_ignored",
    ),
    "RequestExtensions.Success": ("test_request_extensions_is_answered_before_everything_else",),
    "RequestExtensions.Error when none is supported": (
        "test_request_extensions_error_when_none_is_supported",
    ),
    "RequestExtensions.Error lists what is required": (
        "test_required_extension_is_listed_and_a_retry_helps",
    ),
    "required extension, no retry: disconnect": (
        "test_required_extension_without_a_retry_closes",
        "test_required_extension_is_needed_for_mining",
    ),
    "features need negotiation": (
        "test_features_need_negotiation",
        "test_tail_without_negotiation_means_nothing",
    ),
    "TLV longer than its extension allows: reject the message": (
        "test_worker_identity_too_long_is_refused",
    ),
    "TLV cut off": ("test_tlv_that_is_cut_off_is_refused",),
    "worker identity (0x0002)": ("test_worker_identity_names_a_worker",),
    # Mining: set-up.
    "REQUIRES_STANDARD_JOBS": (
        "test_header_only_devices_get_standard_channels_only",
        "test_header_only_devices_get_jobs_per_channel",
    ),
    "REQUIRES_WORK_SELECTION": (
        "test_setup_connection_error_names_all_unsupported_flags",
        "test_custom_jobs_of_a_pool_without_work_selection",
        "test_work_selection_gets_no_jobs_of_the_pool",
    ),
    "REQUIRES_VERSION_ROLLING": ("test_setup_flags_of_the_client_are_taken",),
    "REQUIRES_FIXED_VERSION": ("test_setup_flags_of_a_pool_without_version_rolling",),
    "REQUIRES_EXTENDED_CHANNELS": (
        "test_servers_support_both_kinds_on_one_connection",
        "test_work_selection_asks_for_extended_channels",
    ),
    "both kinds of channels": ("test_servers_support_both_kinds_on_one_connection",),
    "standard channels without the flag may be grouped": (
        "test_standard_channels_share_a_group_without_the_flag",
    ),
    "idle connections without channel are closed": (
        "test_idle_connection_without_channel_is_closed",
    ),
    # Mining: channels.
    "OpenStandardMiningChannel": (
        "test_open_channel_gives_first_a_future_job_then_the_tip",
        "test_request_ids_are_echoed_in_any_order",
        "test_hash_rate_0_is_allowed",
        "test_hash_rate_that_is_none_is_refused",
        "test_hash_rate_sets_the_first_target",
    ),
    "OpenStandardMiningChannel.Success": ("test_standard_channel_gets_its_whole_extranonce",),
    "max_target is accepted or answered with an error": (
        "test_max_target_is_kept",
        "test_max_target_0_is_refused",
    ),
    "OpenMiningChannel.Error": ("test_pool_may_refuse_a_user",),
    "OpenExtendedMiningChannel": ("test_open_channel_gives_first_a_future_job_then_the_tip",),
    "OpenExtendedMiningChannel.Success, min_extranonce_size": (
        "test_extended_channel_gets_the_extranonce_it_needs",
        "test_extranonce_beyond_16_is_refused",
    ),
    "UpdateChannel": (
        "test_update_channel_has_no_answer",
        "test_update_channel_with_another_hash_rate_moves_the_target",
    ),
    "UpdateChannel: a smaller target is reflected by SetTarget": (
        "test_update_channel_with_a_smaller_target_brings_set_target_and_a_job",
    ),
    "UpdateChannel.Error": ("test_update_channel_error",),
    "CloseChannel by the client": (
        "test_close_channel_by_the_client",
        "test_close_channel_of_nobody_is_silent",
    ),
    "CloseChannel by the server": ("test_close_channel_by_the_pool",),
    "CloseChannel with a group id": (
        "test_close_channel_with_a_group_id_closes_all_members",
        "test_close_channel_of_a_group_by_the_pool",
    ),
    "SetExtranoncePrefix holds for later jobs": (
        "test_set_extranonce_prefix_holds_for_later_jobs",
    ),
    "SetExtranoncePrefix is not for groups": (
        "test_set_extranonce_prefix_is_never_sent_to_groups",
    ),
    "search spaces are unique": ("test_prefixes_are_never_given_twice",),
    "SetGroupChannel": ("test_set_group_channel_moves_a_channel",),
    "SetGroupChannel not with REQUIRES_STANDARD_JOBS": (
        "test_header_only_devices_get_jobs_per_channel",
        "test_set_group_channel_is_not_sent_unless_groups_are_wanted",
    ),
    "group ids and channel ids are one name space": (
        "test_group_ids_are_channel_ids_of_their_own",
    ),
    "group members have one extranonce size": ("test_group_members_have_one_extranonce_size",),
    # Mining: jobs.
    "NewMiningJob: first a future job, then SetNewPrevHash": (
        "test_open_channel_gives_first_a_future_job_then_the_tip",
    ),
    "NewMiningJob": (
        "test_new_template_brings_an_active_job",
        "test_standard_jobs_bear_the_owner_tag",
    ),
    "NewExtendedMiningJob: coinbase without witness": ("test_coinbase_is_as_the_template_says",),
    "NewExtendedMiningJob to a channel or a group": (
        "test_new_template_brings_an_active_job",
        "test_standard_channels_share_a_group_without_the_flag",
    ),
    "NewExtendedMiningJob: version_rolling_allowed": ("test_version_rolling_is_told_with_the_job",),
    "SetNewPrevHash names a future job": (
        "test_new_tip_brings_a_future_job_and_names_it",
        "test_future_job_waits_for_its_tip",
        "test_future_job_that_was_passed_over_is_gone",
    ),
    "SetNewPrevHash: only that job stays valid": ("test_only_the_named_job_stays_valid",),
    "SetTarget: later jobs, not active ones": (
        "test_set_target_is_followed_by_a_job_with_its_tag",
    ),
    "SetTarget: queued future jobs": ("test_set_target_renews_the_queued_future_job",),
    "SetTarget on standard channels": ("test_set_target_on_standard_channels",),
    "job ids are not reused": ("test_job_ids_are_unique_on_the_connection",),
    "late joiners": ("test_late_joiner_gets_the_work_of_everyone", "test_late_joiner_of_a_group"),
    "SetCustomMiningJob without job declaration": ("test_custom_jobs_are_refused",),
    "SetCustomMiningJob": (
        "test_custom_job_is_handed_up_as_it_came",
        "test_custom_job_without_exactly_one_tag_is_refused",
        "test_custom_job_solves_a_block",
    ),
    "SetCustomMiningJob.Success": (
        "test_custom_job_is_mined_and_its_shares_are_provable",
        "test_set_target_precedes_the_answer_when_the_tag_differs",
    ),
    "SetCustomMiningJob.Error": (
        "test_custom_job_is_refused_by_the_pool",
        "test_custom_job_of_a_tip_that_went_is_refused",
    ),
    "SetTarget with custom jobs": (
        "test_vardiff_wants_a_tag_and_sends_nothing",
        "test_smaller_max_target_of_a_work_selecting_channel",
    ),
    "a miner's extranonce behind another pool's": ("test_jobs_for_which_another_pool_pays",),
    "past jobs by time": ("test_past_jobs_are_kept_by_time_not_by_number",),
    # Mining: shares.
    "SubmitSharesStandard, SubmitSharesExtended": (
        "test_good_share_is_recorded_as_it_was_mined",
        "test_share_at_the_very_target",
    ),
    "SubmitSharesExtended: extranonce of the agreed size": ("test_bad_extranonce_size",),
    "ntime from the header's time on": ("test_ntime_at_its_lower_bound",),
    "ntime up to the time elapsed": (
        "test_ntime_at_its_upper_bound",
        "test_ntime_beyond_what_nodes_take",
    ),
    "version bits (BIP323)": ("test_version_bits",),
    "version rolling not allowed": ("test_version_rolling_not_allowed",),
    "SubmitShares.Success: counters of the batch": (
        "test_batched_success_counts_exactly",
        "test_batched_success_is_per_channel",
    ),
    "SubmitShares.Success: last_sequence_number is echoed": (
        "test_sequence_numbers_are_echoed_whatever_they_are",
    ),
    "SubmitShares.Error: one for each share, at once": (
        "test_errors_are_immediate_and_one_for_each_share",
        "test_share_that_the_ledger_refuses",
    ),
    "error code invalid-channel-id": ("test_unknown_channel", "test_share_of_the_other_kind"),
    "error code invalid-job-id": ("test_unknown_job", "test_job_of_another_channel"),
    "error code stale-share": ("test_stale_share",),
    "error code difficulty-too-low": ("test_low_difficulty_share",),
    "error code duplicate-share": (
        "test_duplicate_share",
        "test_duplicate_share_in_one_write",
        "test_replay_after_tips_a_b_a",
        "test_replay_on_another_connection",
        "test_shares_from_before_a_restart_are_duplicates",
    ),
    # This project's own: the owner tag, durability, blocks, attachments.
    "owner tag": ("test_jobs_bear_the_owner_tag", "test_tag_follows_epoch_and_owner"),
    "shares count by their job's tag": ("test_vardiff_steers_a_fast_miner",),
    "durable before acknowledged": ("test_nothing_is_acknowledged_before_it_is_durable",),
    "blocks": (
        "test_solved_block_leaves_at_once",
        "test_block_above_the_share_target_is_a_block_nevertheless",
    ),
    "attachments": (
        "test_attachment_by_tlv_is_handed_up",
        "test_attachment_leaves_out_what_is_not_negotiated",
        "test_share_in_a_message_of_the_extension",
        "test_attachments_are_refused_by_share",
    ),
    "frames of extensions": (
        "test_frames_of_the_extension_go_up_and_down",
        "test_large_frames_are_chunked",
    ),
    # Job declaration.
    "AllocateMiningJobToken, AllocateMiningJobToken.Success": (
        "test_token_comes_with_payout_script_and_tag",
        "test_token_for_nobody_closes",
        "test_tokens_beyond_the_rate_come_later",
    ),
    "the first output is the pool's payout": ("test_token_comes_with_payout_script_and_tag",),
    "DECLARE_TX_DATA": (
        "test_declaration_flag_may_be_required",
        "test_hiding_connection_declares_nothing",
    ),
    "job declaration set-up": (
        "test_declaration_set_up_is_answered",
        "test_declaration_set_up_errors",
        "test_declaration_extensions_are_negotiated",
    ),
    "DeclareMiningJob, DeclareMiningJob.Success": (
        "test_template_is_judged_and_its_token_given",
        "test_template_without_transactions",
        "test_miner_may_pay_itself_too",
    ),
    "DeclareMiningJob.Error": (
        "test_verdict_is_told",
        "test_coinbase_that_is_not_on_the_pools_terms",
        "test_coinbase_that_pays_the_pool_nothing",
        "test_template_for_another_height",
    ),
    "ProvideMissingTransactions": (
        "test_only_unknown_transactions_are_asked_for",
        "test_another_declaration_costs_what_changed",
    ),
    "ProvideMissingTransactions.Success: in the order of the request": (
        "test_transactions_that_are_others",
        "test_transactions_that_are_not_what_was_asked_for",
        "test_transactions_that_never_come",
        "test_transactions_that_nobody_asked_for",
    ),
    "PushSolution: of the last DeclareMiningJob.Success on the connection": (
        "test_pushed_block_goes_out_whole",
        "test_pushed_block_of_another_connection",
        "test_pushed_block_without_proof_of_work",
    ),
    "tokens are unique and rate-limited": (
        "test_token_pays_for_one_declaration",
        "test_token_of_another_connection",
        "test_tokens_end_with_their_connection",
        "test_tokens_beyond_the_rate_come_later",
    ),
    # Template distribution.
    "CoinbaseOutputConstraints come first": (
        "test_a_client_hears_nothing_before_it_has_said_how_much_room_it_needs",
    ),
    "CoinbaseOutputConstraints are honoured": (
        "test_the_greediest_client_counts_until_it_leaves",
        "test_a_full_block_waits_for_the_room_that_a_client_needs",
        "test_room_that_nobody_gets_ends_the_connection",
    ),
    "NewTemplate, then TemplateSetNewPrevHash for a new tip": (
        "test_a_tip_is_told_by_a_future_template_and_its_activation",
        "test_a_slow_client_misses_templates_and_no_tip",
    ),
    "NewTemplate ahead of its tip": (
        "test_a_template_ahead_becomes_work_the_moment_its_tip_comes",
        "test_a_template_ahead_of_another_height_is_dropped",
    ),
    "RequestTransactionData, RequestTransactionData.Success": (
        "test_transactions_are_sent_in_their_order",
    ),
    "RequestTransactionData.Error": (
        "test_transactions_that_cannot_be_had_are_refused_in_words",
        "test_a_client_that_asks_and_does_not_listen_is_left",
    ),
    "SubmitSolution": (
        "test_a_solution_reaches_the_node_even_when_its_client_has_gone",
        "test_a_solution_of_the_tip_before_is_taken_and_an_older_one_is_not",
        "test_solutions_that_are_none_are_counted_and_then_end_the_connection",
    ),
}
