// `clickctl postback sign`: a signed conversion, ready to be sent.
internal import ArgumentParser
internal import Configuration
internal import EdgeCore
internal import LinuxIO
internal import Postgres
internal import TLS
internal import Telemetry
internal import Tracking

struct PostbackCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "postback", abstract: "Conversion messages.", subcommands: [Sign.self])

    struct Sign: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print a curl command with a signed message, and the same as a signed GET.",
            discussion: """
                The output is a shell script: pipe it to sh to send the message. A signature holds \
                for five minutes. The merchant's secret is read from the database, or from \
                --secret-file; it is never printed.
                """)

        @Option(help: ArgumentHelp("The merchant.", valueName: "uuid")) var merchant: String
        @Option(help: "The order, at most 128 bytes.") var order: String
        @Option(help: "A decimal such as 129.90.") var amount: String?
        @Option(help: "ISO 4217 code; the merchant's own when not given.") var currency: String?
        @Option(help: "The click's token.") var click: String?
        @Option(help: "sale, lead, subscription, renewal, booking or refund.") var event = "sale"
        @Option(help: "pending, completed or rejected; completed when not given.")
        var status: String?
        @Option(help: "One of several refunds.") var refundID: String?
        @Option(help: "The coupon's code.") var coupon: String?
        @Option(help: "The merchant's own customer.") var customer: String?
        @Option(help: "When it happened, RFC 3339.") var eventTime: String?
        @Option(
            name: .customLong("url"),
            help: "Where clickd listens; the first of http.listen when not given.")
        var url: String?
        @Option(help: ArgumentHelp("A file that holds the signing secret.", valueName: "file"))
        var secretFile: String?
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let merchant = try Checked.id("--merchant", merchant)
            let fields = try fields(merchant)
            let base = try baseURL()
            let secret = try secret(of: merchant)
            guard let signer = ConversionSigner(digests: OpenSSLDigests(), secret: secret) else {
                throw CommandError.data(
                    "--merchant: its signing secret closes the signed ways in "
                        + "(allowed: whsec_ and base64 of at least 16 bytes)")
            }
            let message = SignedMessage(
                fields: fields, base: base, signer: signer,
                id: "msg_\(hexadecimalText(Randomness.bytes(12)))",
                time: Timestamp(microseconds: SystemClock.wallMicroseconds()))
            CurrentProcess.writeOutput(output.json ? message.json : message.script)
        }

        /// The message's fields in order, checked as far as can be told here.
        private func fields(
            _ merchant: EntityID
        ) throws(CommandError) -> [(name: String, value: String)] {
            _ = try Checked.word(
                "--event", event, ConversionEvent.allCases.map(\.name))
            var fields = [
                ("merchant_id", merchant.description),
                ("order_id", try Checked.text("--order", order, bytes: 1...128)),
            ]
            if event != "sale" { fields.append(("event", event)) }
            if let amount {
                fields.append(("amount", try checkedAmount(amount)))
            } else if ConversionEvent.named(event, by: \.name)?.amountIsOptional != true {
                throw .usage("--amount: missing (allowed: a decimal such as 129.90)")
            }
            if let currency {
                fields.append(("currency", try Checked.currency("--currency", currency).letters))
            }
            if let click {
                let bytes = Array(click.utf8)
                guard bytes.withUnsafeBytes({ ClickToken.parse($0) }) != nil else {
                    throw .argument("--click", click, allowed: "a token of 22 characters")
                }
                fields.append(("click_id", click))
            }
            if let status {
                let words = ConversionStatus.allCases.map(\.name)
                fields.append(("status", try Checked.word("--status", status, words)))
            }
            if let refundID {
                fields.append(
                    ("refund_id", try Checked.text("--refund-id", refundID, bytes: 1...128)))
            }
            if let coupon {
                fields.append(("coupon_code", try Checked.text("--coupon", coupon, bytes: 1...64)))
            }
            if let customer {
                fields.append(
                    ("customer_id", try Checked.text("--customer", customer, bytes: 1...255)))
            }
            if let time = try Checked.time("--event-time", eventTime) {
                fields.append(("event_time", time.description))
            }
            return fields
        }

        private func checkedAmount(_ amount: String) throws(CommandError) -> String {
            if let currency {
                let known = try Checked.currency("--currency", currency)
                _ = try Checked.money("--amount", amount, known)
            }
            let parts = amount.split(separator: ".", omittingEmptySubsequences: false)
            let isDecimal =
                (1...2).contains(parts.count) && amount.utf8.count <= 20
                && parts.allSatisfy { part in
                    !part.isEmpty && part.utf8.allSatisfy { $0 >= 48 && $0 <= 57 }
                }
            guard isDecimal else {
                throw .argument("--amount", amount, allowed: "a decimal such as 129.90")
            }
            return amount
        }

        private func baseURL() throws(CommandError) -> String {
            if var url {
                try LinkRules.requireURL("--url", url)
                while url.hasSuffix("/") { url.removeLast() }
                return url
            }
            guard let address = try options.load().http.listen.first else {
                throw .usage("--url: missing, and http.listen is empty")
            }
            var text = address.description
            for wildcard in ["0.0.0.0:", "[::]:"] where text.hasPrefix(wildcard) {
                text = "127.0.0.1:" + text.dropFirst(wildcard.count)
            }
            return "http://\(text)"
        }

        private func secret(of merchant: EntityID) throws(CommandError) -> [UInt8] {
            if let secretFile {
                do throws(Errno) {
                    let bytes = try FileSystem.read(secretFile, limit: 4096)
                    return Array(bytes.prefix { $0 != 0x0A && $0 != 0x0D })
                } catch {
                    throw .inputOutput(secretFile, error)
                }
            }
            let result = try options.connect().rows(
                "SELECT signing_secret FROM merchants WHERE id = $1", [.uuid(merchant)])
            guard result.count == 1 else {
                throw .data("--merchant: \(merchant) is not in merchants")
            }
            guard let secret = result.text(0, 0) else {
                throw .data(
                    "--merchant: \(merchant) has no signing_secret "
                        + "(`clickctl merchant add --generate-secret` makes one)")
            }
            return Array(secret.utf8)
        }
    }
}

/// A conversion, signed both ways.
struct SignedMessage {
    /// Where the POST goes.
    let url: String
    /// Its signing headers, in order.
    let headers: [(name: String, value: String)]
    /// Its body.
    let body: String
    /// The same as a GET.
    let signedURL: String

    init<D: Digests>(
        fields: [(name: String, value: String)], base: String, signer: ConversionSigner<D>,
        id: String, time: Timestamp
    ) {
        body =
            JSONText.object { json in
                for (name, value) in fields { json.member(name, value) }
            }.text
        let seconds = String(time.seconds)
        let signature = signer.webhookSignature(
            id: Array(id.utf8), timestamp: Array(seconds.utf8), body: Array(body.utf8))
        url = "\(base)/v1/conversions"
        headers = [
            ("webhook-id", id), ("webhook-timestamp", seconds), ("webhook-signature", signature),
        ]
        var parameters = fields.map {
            ConversionParameter(name: Array($0.name.utf8), value: Array($0.value.utf8))
        }
        parameters.append(
            ConversionParameter(name: Array("ts".utf8), value: Array(seconds.utf8)))
        let query = parameters.map { parameter in
            let name = String(decoding: ParameterParser.encode(parameter.name), as: UTF8.self)
            let value = String(decoding: ParameterParser.encode(parameter.value), as: UTF8.self)
            return "\(name)=\(value)"
        }
        signedURL =
            "\(base)/postback?\(query.joined(separator: "&"))"
            + "&sig=\(signer.querySignature(parameters))"
    }

    /// A shell script that sends the POST; the GET stands in its comment.
    var script: String {
        var command = "curl -sS -X POST \(quoted(url)) -H 'content-type: application/json'"
        for (name, value) in headers { command += " -H \(quoted("\(name): \(value)"))" }
        command += " --data-binary \(quoted(body))"
        return "\(command)\n# the same as a signed GET: curl -sS \(quoted(signedURL))\n"
    }

    /// The parts, for machines.
    var json: String {
        JSONText.object { json in
            json.member("url", url)
            json.object("headers") { json in
                for (name, value) in headers { json.member(name, value) }
            }
            json.member("body", body)
            json.member("signed_url", signedURL)
        }.text + "\n"
    }

    /// Text that a shell takes as one word, whatever it holds.
    private func quoted(_ text: String) -> String {
        "'"
            + text.split(separator: "'", omittingEmptySubsequences: false).joined(
                separator: "'\\''")
            + "'"
    }
}
