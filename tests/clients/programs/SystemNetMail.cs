// Sends one message that .NET's System.Net.Mail composes from the subject, X-Id and text of FILE; see README.md.

using System;
using System.IO;
using System.Net;
using System.Net.Mail;
using System.Text;

static class SystemNetMail
{
    static int Main(string[] words)
    {
        ServicePointManager.ServerCertificateValidationCallback = (sender, certificate, chain, errors) => true;
        string[] halves = (File.ReadAllText(words[0], Encoding.UTF8) + "\r\n\r\n")
            .Split(new[] { "\r\n\r\n" }, 2, StringSplitOptions.None);
        var message = new MailMessage { From = new MailAddress(words[1]) };
        for (int at = 2; at < words.Length; at++)
        {
            message.To.Add(words[at]);
        }
        foreach (string field in halves[0].Split(new[] { "\r\n" }, StringSplitOptions.None))
        {
            string[] parts = field.Split(new[] { ": " }, 2, StringSplitOptions.None);
            if (parts[0] == "Subject")
            {
                message.Subject = parts[1];
            }
            else if (parts[0] == "X-Id")
            {
                message.Headers.Add("X-Id", parts[1]);
            }
        }
        message.Body = halves[1].TrimEnd('\r', '\n');
        string attachment = Environment.GetEnvironmentVariable("SMTP_ATTACHMENT");
        if (!string.IsNullOrEmpty(attachment))
        {
            message.Body = "attached";
            message.Attachments.Add(new Attachment(attachment));
        }
        string user = Environment.GetEnvironmentVariable("SMTP_USER");
        int port = int.Parse(Environment.GetEnvironmentVariable("SMTP_PORT"));
        using (var client = new SmtpClient(Environment.GetEnvironmentVariable("SMTP_HOST"), port))
        {
            client.EnableSsl = Environment.GetEnvironmentVariable("SMTP_TLS") == "starttls";
            if (user != "")
            {
                client.Credentials = new NetworkCredential(user, Environment.GetEnvironmentVariable("SMTP_PASSWORD"));
            }
            try
            {
                client.Send(message);
            }
            catch (SmtpException fault)
            {
                Console.Error.WriteLine(fault);
                return 1;
            }
        }
        return 0;
    }
}
