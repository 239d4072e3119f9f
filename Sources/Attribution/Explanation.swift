// The decision as it is stored: what it saw and what it concluded, so that it can be replayed.
internal import Tracking

extension Attribution {
    /// The text of `sales.decision` for a sale that is not a refund.
    public static func explanation(
        of verdict: Verdict, _ sale: Sale, _ evidence: Evidence
    ) -> String {
        var members: [(name: String, value: JSONValue)] = [
            ("version", .integer(1)), ("model", .text("last_click")),
        ]
        switch verdict {
        case .wait(let reason): members += outcome("wait", reason)
        case .hold(let reason): members += outcome("hold", reason)
        case .park(let reason): members += outcome("park", reason)
        case .reject(let reason): members += outcome("reject", reason)
        case .complete(let completion):
            members += outcome("complete", completion.unpaidReason)
            members.append(("attribution", .text(completion.attribution.kind.rawValue)))
            members.append(
                (
                    "rungs",
                    .array(
                        completion.attribution.rungs.map {
                            .object([
                                ("rung", .text($0.kind.rawValue)), ("result", .text($0.result)),
                            ])
                        })
                ))
            if let doubt = completion.attribution.doubt { members.append(("doubt", .text(doubt))) }
            if let commission = completion.commission {
                members.append(("rule_id", .text("\(commission.ruleID)")))
                members.append(("commission_minor", .integer(Int128(commission.amountMinor))))
                members.append(("fee_minor", .integer(Int128(completion.feeMinor))))
            }
        }
        members.append(("inputs", inputs(sale, evidence)))
        return JSONValue.object(members).encoded
    }

    /// The text of `sales.decision` for a refund.
    ///
    /// `sale` names what it was about.
    public static func explanation(of verdict: RefundVerdict) -> String {
        var members: [(name: String, value: JSONValue)] = [("version", .integer(1))]
        switch verdict {
        case .wait(let reason): members += outcome("wait", reason)
        case .park(let reason): members += outcome("park", reason)
        case .reject(let reason): members += outcome("reject", reason)
        case .apply(let applied):
            members += outcome("complete", nil)
            members.append(("sale", .text("\(applied.saleID)")))
            members.append(("refunded_minor", .integer(Int128(applied.amountMinor))))
            members.append(("whole", .bool(applied.isWhole)))
        }
        return JSONValue.object(members).encoded
    }

    private static func outcome(
        _ word: String, _ reason: String?
    ) -> [(name: String, value: JSONValue)] {
        [("outcome", .text(word)), ("reason", .optional(reason))]
    }

    private static func inputs(_ sale: Sale, _ evidence: Evidence) -> JSONValue {
        var members: [(name: String, value: JSONValue)] = [
            ("event", .text(sale.event.name)),
            ("event_time", .text("\(sale.eventTime)")),
            ("amount_minor", .integer(Int128(sale.amount.minorUnits))),
            ("currency", .text(sale.amount.currency.letters)),
            ("verified", .bool(sale.isVerified)),
            ("reported", .text(sale.reported.name)),
        ]
        if let settings = evidence.settings {
            members.append(
                (
                    "settings",
                    .object([
                        ("model", .text(settings.model)),
                        ("lookback_days", .integer(Int128(settings.lookbackDays))),
                        ("hold_days", .integer(Int128(settings.holdDays))),
                        ("platform_fee_ppm", .integer(Int128(settings.platformFeePPM))),
                    ])
                ))
        }
        if let id = sale.clickID { members.append(("click", click(id, evidence.click))) }
        if let code = sale.couponCode {
            members.append(
                (
                    "coupon",
                    .object([
                        ("code", .text(code)),
                        ("influencer_id", .optional(evidence.coupon.map { "\($0.influencerID)" })),
                    ])
                ))
        }
        if case .first(let influencer, _, let at) = evidence.customer {
            members.append(
                (
                    "customer",
                    .object([
                        ("influencer_id", .text("\(influencer)")), ("first_at", .text("\(at)")),
                    ])
                ))
        }
        return .object(members)
    }

    private static func click(_ id: ClickID, _ evidence: ClickEvidence) -> JSONValue {
        var members: [(name: String, value: JSONValue)] = [
            ("click_id", .text(String(id.rawValue))), ("clicked_at", .text("\(id.clickedAt)")),
            ("ring", .integer(Int128(id.ring))),
        ]
        switch evidence {
        case .notNamed: break
        case .ambiguous: members.append(("found", .text("several")))
        case .missing(let progress): members.append(("found", .text("missing_\(progress)")))
        case .landed(let click):
            members += [
                ("found", .text("one")), ("link_id", .text("\(click.linkID)")),
                ("influencer_id", .text("\(click.influencerID)")),
                ("bot", .bool(click.isBot)),
                ("invalid_reason", .optional(click.invalidReason?.name)),
            ]
        }
        return .object(members)
    }
}
